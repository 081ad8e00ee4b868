"""Skellam noise that the clients add in shares under masks: `privacy.mode: distributed`.

Skellam(μ), the difference of two Poisson(μ/2), has mean 0 and variance μ and is closed under addition: shares of
variance μ/(m_min − c) from at least m_min survivors, c of whom may reveal theirs to the server, leave Skellam noise of
variance at least μ on the sum (Agarwal, Kairouz, Liu 2021, https://arxiv.org/abs/2110.04995).
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from training.privacy.mechanisms import grid, noise, release
from training.privacy.mechanisms.base import Mechanism, MechanismTerms
from training.privacy.mechanisms.grid import Ring
from training.privacy.mechanisms.poisson_sampling import steady_share
from training.privacy.mechanisms.release import Vector
from training.settings.privacy import PrivacySettings


class DistributedSkellam(Mechanism):
    """Each client rounds its vector to the grid g and adds its share of the noise; masks hide all but the noisy sum.
    Choose it where nobody may see a sum without noise; it is the default.

    Sensitivity: zero-out adjacency, in grid steps Δ₂ = S/g + min(√d/2, S/g) in L2 and Δ₁ ≤ √d Δ₂ in L1, S = C/√(1−β)
    (`grid.integer_sensitivities`). Theorem: RDP of the Skellam mechanism (Agarwal, Kairouz, Liu 2021, theorem 3.5) of
    variance μ = (zS/g)², which survivors' shares never fall below: see `training.privacy.accounting.skellam_rdp`.
    """

    @classmethod
    def terms_of(cls, settings: PrivacySettings, cohort: int, clip_norm: float) -> MechanismTerms:
        norm_over_clip = release.vector_norm_bound(settings, 1.0)
        step = clip_norm * grid.grid_over_clip(settings.noise_multiplier, norm_over_clip)
        floor, colluders = settings.minimum_survivors(cohort), settings.colluders_among(cohort)
        deviation = release.noise_deviation(settings, clip_norm)
        return MechanismTerms(clip_norm, step, share_variance(deviation, step, floor, colluders))

    @property
    def deviation(self) -> float:
        return release.noise_deviation(self.settings, self.clip_norm)

    @property
    def honest(self) -> int:
        """How many shares make up the noise that the accountant counts on."""
        return self._honest_among(self.cohort)

    def add_share(self, steps: NDArray[np.int64], client: str, round_number: int) -> NDArray[np.int64]:
        generator = self._generator(client, round_number)
        return steps + noise.skellam_noise(self.terms.share_variance, len(steps), generator)

    def add_noise(self, total: Vector, round_number: int, survivors: int) -> Vector:
        """The sum with the noise that survivors' shares leave missing.

        Under Poisson sampling all sums carry the same noise, so the server adds the difference; to a sum over nobody it
        adds all of it. Where cohorts have one size it adds nothing: the survivors' shares are the noise.
        """
        if survivors and not self.poisson:
            return total
        counted = (self.deviation / self.grid) ** 2
        missing = max(self._whole - survivors / self.honest, 0.0) * counted
        drawn = noise.skellam_noise(missing, len(total), self._generator("server", round_number))
        return total + grid.dequantise(drawn, self.grid)

    def noise_on_sum(self, clients: int, dimension: int = 0) -> float:
        """It includes shares beyond those counted on; under Poisson sampling all sums carry the same noise."""
        if self.poisson:
            return self.deviation * math.sqrt(self._whole)
        return self.deviation * math.sqrt(max(clients, 1) / self.honest)

    @cached_property
    def _whole(self) -> float:
        """The noise variance of every sum under Poisson sampling, as a multiple of the variance that is counted on."""
        cohorts = self.poisson.cohorts(capped=self.settings.max_participation is not None) if self.poisson else range(0)
        return steady_share(cohorts, self._honest_among)

    def _honest_among(self, cohort: int) -> int:
        """How many shares of a cohort make up the noise that is counted on; in the smallest cohorts one share does."""
        return self.settings.minimum_survivors(cohort) - self.settings.colluders_among(cohort)

    def _ring(self, deviation: float = 0.0, shares: int = 1) -> Ring:
        return super()._ring(self.deviation, self.honest)


def share_variance(noise_deviation: float, grid: float, minimum_survivors: int, colluders: int) -> float:
    """μ_share = (zS/g)²/(m_min − c), in grid steps squared: what each client adds."""
    honest = minimum_survivors - colluders
    if honest < 1:
        raise PrivFedTalkError(
            f"with {minimum_survivors} survivors and {colluders} tolerated colluders no honest client is left to add "
            "noise",
            remedy="lower privacy.tolerated_colluders, raise privacy.survivor_floor or sample more clients",
        )
    return (noise_deviation / grid) ** 2 / honest
