"""Standard errors of figures of a whole set (KID, FID, FVD), where no clip has a value of its own: a jackknife over
clients.

Each client is left out once, and the standard error follows from how the figure changes (Tukey 1958; by blocks of
clients where there are many, Shao and Wu 1989). A bootstrap is wrong here: a resample has some frames twice, which
lowers its rank and raises both FID and KID, so that the interval may not even contain the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.arrays import Floats

MOST_BLOCKS = 20
"""The most blocks of clients. Each block computes the figure once more, and more blocks add little precision."""

Pair = tuple[Floats, Floats]
"""Features [n, D] of a clip's generated frames and of its true ones."""

Statistic = Callable[[Floats, Floats], float]


@dataclass(frozen=True)
class SetInterval:
    """Standard error and 95 % interval (Student's, over blocks of clients) of a figure of the whole set."""

    standard_error: float
    low: float
    high: float


def set_interval(clients: Mapping[str, Sequence[Pair]], statistic: Statistic) -> SetInterval | None:
    """Standard error and interval of `statistic` over all clients' features; None with fewer than three clients."""
    from scipy import stats  # takes a second: here, so that importing the catalogue stays fast

    blocks = [list(names) for names in np.array_split(sorted(clients), min(MOST_BLOCKS, len(clients)))]
    if len(blocks) < 3:
        return None
    whole = statistic(*joined([pair for name in sorted(clients) for pair in clients[name]]))
    without = np.array(
        [
            statistic(*joined([pair for name in sorted(clients) if name not in block for pair in clients[name]]))
            for block in blocks
        ]
    )
    count = len(blocks)
    error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return SetInterval(error, whole - half, whole + half)


def joined(pairs: Sequence[Pair]) -> Pair:
    """All pairs' features as one pair."""
    found, truth = zip(*pairs, strict=True)
    return np.concatenate(found), np.concatenate(truth)
