"""The components of the full method; each can be switched on or off alone.

isfa                weights by reliability, a_k = n exp(gamma (s_k - 1)); off: gamma = 0, by clip counts alone
tdc                 temporal-denoising consistency in the local objective, eq. 8; off: its weight is 0
dp                  clipping and noise, as `privacy.mode` says; off: mode "none"
secure_aggregation  the server sees masked vectors and, unmasked, only their sum; off: every client's vector

A component that is on runs as the configuration sets it; `training.components` overrides a method's own selection,
e.g. `fedavg: [dp, secure_aggregation]` for FedAvg under privacy.
"""

from __future__ import annotations

from collections.abc import Collection

from training.settings import Component, TrainingSettings

EVERY: tuple[Component, ...] = ("isfa", "tdc", "dp", "secure_aggregation")
NO_CLIPPING = 1e9
"""A clipping norm that no update reaches."""


def with_components(settings: TrainingSettings, chosen: Collection[Component]) -> TrainingSettings:
    """The settings with every component off that is not in `chosen`.

    Noise in shares needs a hidden sum, so `dp` without `secure_aggregation` is noise by one trusted server
    (mode "central"). Masks need bounded vectors to put on a grid, so `secure_aggregation` alone still clips.
    """
    objective, privacy = settings.objective, settings.privacy
    if "tdc" not in chosen:
        objective = objective.model_copy(update={"tdc_weight": 0.0})
    off: dict[str, object] = {}
    if "isfa" not in chosen:
        off["gamma"] = 0.0
    if "secure_aggregation" not in chosen:
        off["secure_aggregation"] = False
        if privacy.mode == "distributed":
            off["mode"] = "central"
    if "dp" not in chosen:
        off |= {"mode": "none", "seeded_noise": None}
        if "secure_aggregation" not in chosen:
            off["clip_norm"] = NO_CLIPPING
    return settings.model_copy(update={"objective": objective, "privacy": privacy.model_copy(update=off)})
