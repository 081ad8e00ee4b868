"""The area under the ROC curve of an attack, with intervals that hold for a handful of people.

People, not clips, are what is counted: clips of one person resemble each other.
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
        """Whether chance is out of the question: the whole interval lies above a half."""
        return self.low > 0.5


def auc(members: Scores, others: Scores) -> float:
    """Chance that a member scores above one of the others, ties counting half: Mann and Whitney's U over m n."""
    ranks = stats.rankdata(np.concatenate([members, others]))
    m, n = len(members), len(others)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def area(members: Scores, others: Scores, level: float = 0.95) -> Area:
    """AUC of independent people with Newcombe's interval."""
    value, m, n = auc(members, others), len(members), len(others)
    return Area(value, *newcombe(value, m, n, level), m, n)


def newcombe(value: float, m: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Newcombe's method 5 (2006, Statistics in Medicine 25:559): all θ whose own deviation explains the value.

    |value − θ| ≤ z √V(θ), with Hanley and McNeil's V in which (m + n)/2 stands for either size. Unlike DeLong's it has
    a width where the attack is right about everybody, and stays inside [0, 1].
    """
    z, size = float(stats.norm.ppf(0.5 + level / 2)), (m + n) / 2 - 1

    def deviation(theta: float) -> float:
        spread = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return math.sqrt(theta * (1 - theta) * spread / (m * n))

    def end(side: int) -> float:
        def excess(theta: float) -> float:
            return side * (theta - value) - z * deviation(theta)

        outer = 1.0 if side > 0 else 0.0
        # At 0 and 1 a deviation is 0, which is a root, and not the one that is meant.
        inner = min(max(value, 1e-9), 1 - 1e-9)
        return outer if value == outer else float(optimize.brentq(excess, inner, outer))

    return end(-1), end(1)


def area_within_runs(scores: Scores, included: NDArray[np.bool_], seed: int, level: float = 0.95) -> Area:
    """The mean over runs of each run's AUC; scores and inclusion are [runs, people], the same people in all runs.

    Only people of one run are compared, as they stand before one adversary. The interval resamples people, who keep
    all their runs, and runs (percentiles of the double bootstrap, which errs on the wide side). Where all pairs of all
    runs are won, or all lost, every resample says the same: then it is Newcombe's for the people of one run, of whose
    area the mean over runs is no less certain.
    """
    runs, people = scores.shape
    higher = scores[:, :, None] > scores[:, None, :]
    wins = higher + 0.5 * (scores[:, :, None] == scores[:, None, :])
    pairs = (included[:, :, None] & ~included[:, None, :]).astype(np.float64)
    wins = wins * pairs

    def of(person_weights: Scores, run_weights: Scores) -> float:
        won = np.einsum("rij,i,j->r", wins, person_weights, person_weights)
        met = np.einsum("rij,i,j->r", pairs, person_weights, person_weights)
        some = (met > 0) & (run_weights > 0)
        return float(np.average(won[some] / met[some], weights=run_weights[some])) if some.any() else math.nan

    rng = np.random.default_rng(seed)
    value = of(np.ones(people), np.ones(runs))
    draws = [
        of(
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
