"""FedAvg on adapters (McMahan et al. 2017): updates averaged by clip counts, nothing clipped, nothing hidden.

Use it as the baseline that shows what privacy and ISFA cost or gain.
"""

from __future__ import annotations

from training.settings import TrainingSettings


def configure(settings: TrainingSettings) -> TrainingSettings:
    """No TDC term, weights by clip counts alone, no clipping, no noise, no secure aggregation."""
    objective = settings.objective.model_copy(update={"tdc_weight": 0.0})
    privacy = settings.privacy.model_copy(
        update={"mode": "none", "gamma": 0.0, "clip_norm": 1e9, "secure_aggregation": False, "seeded_noise": None}
    )
    return settings.model_copy(update={"objective": objective, "privacy": privacy})
