"""Poisson sampling for the mechanisms: the cohort sizes whose sums must all carry the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scipy import stats

# Rare cohort sizes, of this probability all together, may carry more noise than the others. A claim of amplification
# adds the probability to delta for each round.
RARE_COHORT = 1e-12
VARYING_COHORTS = frozenset({"poisson", "allocation"})
"""The samplings under which the size of a cohort is secret, too. One round's size is Binomial(N, q) in both."""
NOISE_DEVIATIONS = 6
"""How many deviations noise may be longer than expected: one round in 10^8 goes further."""


@dataclass(frozen=True)
class PoissonSampling:
    """The public numbers of Poisson sampling, and of allocation: each of `population` clients is in a round
    independently of the others, `expected` on average.

    The theorem of amplification compares a client drawn with the same client not drawn, under the same noise. If the
    noise of a sum, or the way it is read, depended on the size of its cohort, the sum would reveal that size, and with
    it far more than the theorem counts. So the server fills up the noise to a level that no usual cohort exceeds, and
    reads scalars with the expected number of clients in place of the true one.
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
        """A number of clients that a round hardly ever exceeds."""
        return min(self.population, self.expected + NOISE_DEVIATIONS * math.sqrt(self.expected))


def usual_cohorts(population: int, expected: float) -> range:
    """Cohort sizes M ~ Binomial(N, q), expected = qN: all but 0 and rare ones of joint probability `RARE_COHORT`."""
    drawn = stats.binom(population, expected / population)
    return range(max(int(drawn.ppf(RARE_COHORT / 2)), 1), int(drawn.isf(RARE_COHORT / 2)) + 1)


def steady_share(cohorts: Iterable[int], honest_of: Callable[[int], int]) -> float:
    """The largest noise variance of a sum over one of `cohorts` (sizes), as a multiple of what is counted on.

    honest_of: for a cohort of size m, how many honest shares make up the variance that is counted on, so that m clients
    bring m / honest_of(m) times that variance.
    """
    return max((m / honest_of(m) for m in cohorts), default=1.0)
