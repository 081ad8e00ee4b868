"""FedAvg on adapters (McMahan et al. 2017): updates averaged by clip counts, nothing clipped, nothing hidden.

Use it as the baseline that shows what privacy and ISFA cost or gain.
"""

from __future__ import annotations

from training.federation.methods.base import Method


class FedAvg(Method):
    """No TDC term, weights by clip counts alone, no clipping, no noise, no secure aggregation."""

    label = "FedAvg"
    description = "federated adapters, weighted by clip counts"
