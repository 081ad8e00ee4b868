"""One round's mechanism, fixed before the round from public numbers: grid, ring, noise share, floor, threshold.

A federation's round reads:

    plan = RoundPlan.of(settings, cohort=m, dimension=d, clip_norm=C)
    shares = {k: plan.protect(client_vector(...), noise_generator(settings.seeded_noise, run, round, k)) for k in …}
    total, survivors, traffic = aggregate_in_process(shares, plan.threshold, minimum_survivors=plan.minimum_survivors)
    noisy_sum = plan.reveal(total, noise_generator(settings.seeded_noise, run, round, "server"))
    reading = read_sum(noisy_sum, len(survivors), settings, C)

Without secure aggregation (modes central and none) `plan.plain_sum` takes the place of the middle step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from preparation.errors import PrivFedTalkError
from training.privacy.release import Vector, noise_deviation, vector_norm_bound
from training.privacy.settings import PrivacySettings
from training.privacy.skellam import (
    STEPS_PER_CLIP,
    Ring,
    RingVector,
    choose_ring,
    dequantise,
    gaussian_noise,
    quantise,
    share_variance,
    skellam_noise,
)


@dataclass(frozen=True)
class RoundPlan:
    """What every party of a round knows beforehand. Lengths count the scalars too."""

    mode: str
    length: int  # d + scalars
    grid: float  # g = C/2^20, in the update's units
    ring: Ring
    noise_deviation: float  # zS on each coordinate of the sum, in the update's units
    share_variance: float  # of one client's Skellam share, grid steps squared; 0 unless distributed
    threshold: int  # t
    minimum_survivors: int  # m_min

    @classmethod
    def of(cls, settings: PrivacySettings, cohort: int, dimension: int, clip_norm: float | None = None) -> RoundPlan:
        """The plan of a round of `cohort` clients (m, public) with updates of `dimension` parameters."""
        if cohort < 1:
            raise PrivFedTalkError("a round without clients", remedy="sample at least one client, or skip the round")
        C = clip_norm or settings.clip_norm
        grid = C / STEPS_PER_CLIP
        deviation = noise_deviation(settings, C)
        floor = settings.minimum_survivors(cohort)
        distributed = settings.mode == "distributed"
        shares = floor - settings.tolerated_colluders if distributed else cohort
        return cls(
            mode=settings.mode,
            length=dimension + settings.scalars,
            grid=grid,
            # Computed first, so that too many colluders are refused by name before they become a negative variance.
            share_variance=(
                share_variance(deviation, grid, floor, settings.tolerated_colluders) if distributed else 0.0
            ),
            ring=choose_ring(vector_norm_bound(settings, C), grid, deviation, cohort, shares),
            noise_deviation=deviation,
            threshold=settings.share_threshold(cohort),
            minimum_survivors=floor,
        )

    def protect(self, vector: Vector, generator: np.random.Generator) -> RingVector:
        """A client's vector on the grid with its noise share (distributed mode), as ring elements [length]."""
        assert vector.shape == (self.length,), "a client vector holds the update and the settings' scalars"
        integers = quantise(vector, self.grid)
        return self.ring.encode(integers + skellam_noise(self.share_variance, self.length, generator))

    def reveal(self, total: RingVector, generator: np.random.Generator) -> Vector:
        """The noisy sum, float64 [length], from the ring sum; central mode's noise is added here, once."""
        return self._with_central_noise(dequantise(self.ring.decode(total), self.grid), generator)

    def plain_sum(self, vectors: Iterable[Vector], generator: np.random.Generator) -> Vector:
        """The noisy sum where a trusted aggregator may see the vectors: modes central and none only."""
        assert self.mode != "distributed", "distributed noise is for hidden sums"
        return self._with_central_noise(np.sum(list(vectors), axis=0), generator)

    def _with_central_noise(self, exact_sum: Vector, generator: np.random.Generator) -> Vector:
        if self.mode != "central":
            return exact_sum
        return exact_sum + gaussian_noise(self.noise_deviation, self.length, generator)
