"""What a client does to its vector in one round: the norm it clips to, the grid it rounds to, its noise share."""

from __future__ import annotations

from dataclasses import dataclass

from training.privacy.mechanisms import release, skellam
from training.settings.privacy import PrivacySettings


@dataclass(frozen=True)
class Mechanism:
    """Public numbers of a round, agreed on before it: the server rounds by them, every client checks them."""

    clip_norm: float = 0.0  # C, in the update's units
    grid: float = 0.0  # g, in the update's units
    share_variance: float = 0.0  # μ_share, in grid steps squared; 0 where clients add no noise

    @classmethod
    def of(cls, settings: PrivacySettings, cohort: int, clip_norm: float) -> Mechanism:
        """The mechanism of a round with `cohort` clients, at least one, whose C is `clip_norm`."""
        if settings.mode != "distributed":
            return cls(clip_norm, clip_norm / skellam.STEPS_PER_CLIP)
        norm_over_clip = release.vector_norm_bound(settings, 1.0)
        grid = clip_norm * skellam.grid_over_clip(settings.noise_multiplier, norm_over_clip)
        floor, colluders = settings.minimum_survivors(cohort), settings.colluders_among(cohort)
        deviation = release.noise_deviation(settings, clip_norm)
        return cls(clip_norm, grid, skellam.share_variance(deviation, grid, floor, colluders))
