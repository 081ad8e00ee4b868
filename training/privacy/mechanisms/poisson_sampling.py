"""Poisson sampling as a mechanism sees it: the cohorts whose sums must all carry the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scipy import stats

# Cohorts of sizes that Poisson sampling draws less often than this, all together, may carry more noise than others:
# whoever claims amplification adds it to delta, once a round.
RARE_COHORT = 1e-12
NOISE_DEVIATIONS = 6
"""How far beyond its expected length noise is allowed to be: one round in 10^8 goes further."""


@dataclass(frozen=True)
class PoissonSampling:
    """Poisson sampling's public numbers: each of `population` clients is drawn by itself, `expected` on average.

    Its theorem compares a client drawn with the same client not drawn, under the same noise: a sum whose noise, or
    whose reading, followed the number of those who came would tell that number, and with it far more than the theorem
    counts. So the server fills the noise up to what no cohort exceeds, and reads scalars with the expected number in
    the place of the true one.
    """

    population: int
    expected: float

    def cohorts(self, capped: bool) -> range:
        """Sizes of cohorts, without 0, whose sums must carry the same noise: all but those of probability below
        `RARE_COHORT`. With a cap on participation, cohorts shrink towards its end."""
        usual = usual_cohorts(self.population, self.expected)
        return range(1, usual.stop) if capped else usual

    @property
    def most(self) -> float:
        """A number of clients that a round all but never exceeds."""
        return min(self.population, self.expected + NOISE_DEVIATIONS * math.sqrt(self.expected))


def usual_cohorts(population: int, expected: float) -> range:
    """The sizes, without 0, of cohorts of Poisson sampling, M ~ Binomial(N, q), expected = qN: all but RARE_COHORT."""
    drawn = stats.binom(population, expected / population)
    return range(max(int(drawn.ppf(RARE_COHORT / 2)), 1), int(drawn.isf(RARE_COHORT / 2)) + 1)


def steady_share(cohorts: Iterable[int], honest_of: Callable[[int], int]) -> float:
    """The most noise that a sum over one of `cohorts` (sizes) carries, as a multiple of what is counted on.

    `honest_of` gives, for a cohort's size m, how many honest shares make up the noise that is counted on: m clients
    bring m / honest_of(m) of it.
    """
    return max((m / honest_of(m) for m in cohorts), default=1.0)
