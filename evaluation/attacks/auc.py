"""The area under the ROC curve of an attack, with intervals that hold for a handful of people.

The units are people, not clips, because clips of one person resemble each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Scores = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Area:
    """AUC (0.5: a guess; 1: every member scores above every other) and its 95 % interval."""

    value: float
    low: float
    high: float
    members: int
    others: int

    @property
    def finds_members(self) -> bool:
        """Whether the attack is surely better than a guess: the whole interval lies above 0.5."""
        return self.low > 0.5


def auc(members: Scores, others: Scores) -> float:
    """Probability that a member scores above a non-member, ties counting half: Mann and Whitney's U over m n."""
    ranks = stats.rankdata(np.concatenate([members, others]))
    m, n = len(members), len(others)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def area(members: Scores, others: Scores, level: float = 0.95) -> Area:
    """AUC over independent people, with Newcombe's interval."""
    value, m, n = auc(members, others), len(members), len(others)
    return Area(value, *newcombe(value, m, n, level), m, n)


def newcombe(value: float, m: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Newcombe's interval, method 5 (2006, Statistics in Medicine 25:559): all θ whose deviation explains the value.

    |value − θ| ≤ z √V(θ), with Hanley and McNeil's V and (m + n)/2 in place of both group sizes. Unlike DeLong's, the
    interval has a width where the attack is right about everybody, and it stays inside [0, 1].
    """
    z, size = float(stats.norm.ppf(0.5 + level / 2)), (m + n) / 2 - 1

    def deviation(theta: float) -> float:
        spread = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return math.sqrt(theta * (1 - theta) * spread / (m * n))

    def end(side: int) -> float:
        def excess(theta: float) -> float:
            return side * (theta - value) - z * deviation(theta)

        outer = 1.0 if side > 0 else 0.0
        # At 0 and 1 the deviation is 0, which is another root than the wanted one.
        inner = min(max(value, 1e-9), 1 - 1e-9)
        return outer if value == outer else float(optimize.brentq(excess, inner, outer))

    return end(-1), end(1)


def area_within_runs(scores: Scores, included: NDArray[np.bool_], seed: int, level: float = 0.95) -> Area:
    """The mean over runs of each run's AUC; scores and inclusion are [runs, people], the same people in all runs.

    Only people of the same run are compared, because one adversary attacks one run. The interval resamples people, each
    with all runs, and runs (percentiles of the double bootstrap, which errs on the wide side). Where all pairs of all
    runs are won, or all lost, every resample gives the same value. The interval is then Newcombe's for the people of
    one run, whose area is no more certain than the mean over runs.
    """
    runs, people = scores.shape
    higher = scores[:, :, None] > scores[:, None, :]
    wins = higher + 0.5 * (scores[:, :, None] == scores[:, None, :])
    pairs = (included[:, :, None] & ~included[:, None, :]).astype(np.float64)
    wins = wins * pairs

    def mean_auc(person_weights: Scores, run_weights: Scores) -> float:
        won = np.einsum("rij,i,j->r", wins, person_weights, person_weights)
        compared = np.einsum("rij,i,j->r", pairs, person_weights, person_weights)
        counted = (compared > 0) & (run_weights > 0)
        if not counted.any():
            return math.nan
        return float(np.average(won[counted] / compared[counted], weights=run_weights[counted]))

    rng = np.random.default_rng(seed)
    value = mean_auc(np.ones(people), np.ones(runs))
    draws = [
        mean_auc(
            rng.multinomial(people, np.full(people, 1 / people)).astype(np.float64),
            rng.multinomial(runs, np.full(runs, 1 / runs)).astype(np.float64),
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    if value in (0.0, 1.0):
        inside = round(included.sum(axis=1).mean())
        low, high = newcombe(value, inside, people - inside, level)
    return Area(value, float(low), float(high), int(included.sum()), int((~included).sum()))
