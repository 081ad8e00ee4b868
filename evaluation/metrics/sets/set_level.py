"""How sure a figure of a whole set is (KID, FID, FVD), where no clip has a value of its own: a jackknife over clients.

Each client is left out once, and the figure's standard error follows from how it moves (Tukey 1958; by blocks of
clients where there are many, Shao and Wu 1989). A bootstrap would not do: a resample holds some frames twice, which
lowers its rank and raises both FID and KID, so that its interval lies beside the figure that it is meant for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.arrays import Floats

MOST_BLOCKS = 20
"""More leave a figure of thousands of frames computed too often for what they add."""

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
    """Of `statistic` over all clients' features; None with fewer than three clients, of whom one is left out."""
    from scipy import stats  # a second to import: not for whoever asks the catalogue for a label

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
