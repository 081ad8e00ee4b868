"""The full method: ISFA weights, temporal-denoising consistency, clipping, noise and secure aggregation.

Use it wherever updates come from people. It changes none of the configured settings.
"""

from __future__ import annotations

from training.federation.methods.base import Method
from training.federation.methods.components import EVERY


class PrivFedTalk(Method):
    """All components, as the configuration sets them."""

    label = "PrivFedTalk"
    description = "federated adapters, weighted by reliability, clipped, noised, summed under masks"
    tables = ("main", "ablations")
    components = EVERY
