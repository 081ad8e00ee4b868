"""Simulated clients: clips dealt anew, with a chosen skew in appearance, pose and size.

By identity (`preparation.clients.roles`) every client is one person, which is as unequal as data can be. To measure
*how much* inequality a method tolerates, the clips of the people who are clients are dealt to simulated clients, each
of which draws its mixture over clusters of appearance and pose from Dirichlet(alpha * pooled distribution) (Hsu et
al., 2019, "Measuring the effects of non-identical data distribution"). This is a researcher's tool: it looks at all
clips in one place, which no federation may.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.seeding import generator
from preparation.clients.roles import size_shares
from preparation.settings import PartitionSettings

WANTED = 1e-3
"""Smaller shares of a mixture count as none: no client has enough clips to serve them."""


def cluster(features: NDArray[np.float64], clusters: int, seed: int, restarts: int = 4) -> NDArray[np.int64]:
    """Labels [N] of k-means on standardised features [N, D]; at most `clusters` of them, none empty, 0 the largest."""
    from scipy.cluster.vq import vq  # half a second to import, which worker processes need not pay

    spread = features.std(0)
    points = (features - features.mean(0)) / np.where(spread > 1e-9, spread, 1.0)
    count = min(clusters, len(np.unique(points, axis=0)))
    best: NDArray[np.int64] = np.zeros(len(points), dtype=np.int64)
    least = np.inf
    for restart in range(restarts):
        centres = _spread_centres(points, count, generator(seed, "clusters", str(restart)))
        for _ in range(100):
            labels, distances = vq(points, centres)
            moved = np.stack([points[labels == k].mean(0) if (labels == k).any() else centres[k] for k in range(count)])
            if np.allclose(moved, centres):
                break
            centres = moved
        inertia = float((distances**2).sum())
        if inertia < least - 1e-12:
            best, least = labels.astype(np.int64), inertia
    order = [label for label, _ in Counter(best.tolist()).most_common()]
    return np.array([order.index(label) for label in best.tolist()], dtype=np.int64)


def deal(
    labels: Mapping[str, int], weights: Mapping[str, int], settings: PartitionSettings, names: list[str]
) -> dict[str, str]:
    """Give every unit to one of the clients `names`: {unit: client}, complete, and the same for the same seed.

    labels name each unit's cluster, weights its number of clips. The client that is least full, by its share of the
    clips, takes the next unit, from the cluster that it lacks most. Once the clusters of its mixture are used up, it
    draws a new mixture from what is left. So sizes are kept and every unit is dealt; mixtures hold as far as the supply
    allows.
    """
    pooled = np.zeros(max(labels.values(), default=0) + 1)
    piles: dict[int, list[str]] = {}
    order = {unit: generator(settings.seed, "order", unit).random() for unit in labels}
    for unit in sorted(labels, key=lambda unit: (order[unit], unit)):
        pooled[labels[unit]] += weights[unit]
        piles.setdefault(labels[unit], []).append(unit)
    pooled /= pooled.sum()
    draws = {name: generator(settings.seed, "mixture", name) for name in names}
    wanted = {name: mixture(pooled, settings.alpha, draws[name]) for name in names}
    shares = size_shares(names, settings.sizes, settings.size_skew, settings.seed)
    held = {name: np.zeros(len(pooled)) for name in names}
    queue = [(0.0, place, name) for place, name in enumerate(names)]
    heapq.heapify(queue)
    given: dict[str, str] = {}
    while len(given) < len(labels):
        _, place, name = heapq.heappop(queue)
        left = np.array([len(piles.get(label, ())) for label in range(len(pooled))], dtype=np.float64)
        if not ((wanted[name] > WANTED) & (left > 0)).any():
            wanted[name] = mixture(left / left.sum(), settings.alpha, draws[name])
        lack = wanted[name] * (held[name].sum() + 1) - held[name]
        label = int(np.argmax(np.where((wanted[name] > WANTED) & (left > 0), lack, -np.inf)))
        unit = piles[label].pop()
        given[unit] = name
        held[name][label] += weights[unit]
        heapq.heappush(queue, (held[name].sum() / shares[name], place, name))
    return given


def mixture(pooled: NDArray[np.float64], alpha: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One draw of Dirichlet(alpha * K * pooled), [K]; at tiny alpha, where gamma draws underflow, one cluster."""
    draws = np.where(pooled > 0, rng.gamma(np.maximum(alpha * len(pooled) * pooled, 1e-300)), 0.0)
    if draws.sum() > 0:
        return draws / draws.sum()
    return np.eye(len(pooled))[rng.choice(len(pooled), p=pooled)]


def _spread_centres(points: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Starting centres [count, D] by k-means++ (Arthur & Vassilvitskii, 2007)."""
    chosen = [int(rng.integers(len(points)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(int(rng.choice(len(points), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[chosen]
