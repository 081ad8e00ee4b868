"""The full method: ISFA weights, temporal-denoising consistency, clipping, noise and secure aggregation.

Use it wherever updates come from people; its settings are those of the configuration, as they stand.
"""

from __future__ import annotations

from training.federation.methods.base import Method
from training.federation.methods.components import EVERY


class PrivFedTalk(Method):
    """The configuration itself."""

    label = "PrivFedTalk"
    description = "federated adapters, weighted by reliability, clipped, noised, summed under masks"
    tables = ("main", "ablations")
    components = EVERY
