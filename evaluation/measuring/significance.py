"""Tests whether two methods differ, where clips are nested in clients and both methods made the same clips.

Clips of one person resemble each other, so the client is the unit: intervals resample clients first, tests
flip the sign of whole clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

Values = npt.NDArray[np.float64]

EXACT_CLIENTS = 13  # up to so many clients all 2^K sign patterns are enumerated, not sampled


@dataclass(frozen=True)
class Estimate:
    """A mean over clients with its standard error over clients and a bootstrap interval."""

    mean: float
    standard_error: float
    low: float
    high: float
    n: int
    clients: int


def client_means(values: pd.Series, clients: pd.Series) -> pd.Series:
    """Mean over each client's clips; undefined (NaN) clips do not count."""
    return values.groupby(clients.to_numpy()).mean().dropna()


def standard_error(means: Values) -> float:
    """Standard error of the mean of client means; NaN for a single client."""
    return float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")


def estimate(values: pd.Series, clients: pd.Series, seed: int, level: float = 0.95, resamples: int = 2000) -> Estimate:
    """Mean of client means, and a percentile interval from resampling clients and, within each, its clips.

    The interval of a single clip is NaN, because one clip says nothing about others.
    """
    kept = values.notna().to_numpy()
    groups = [group.to_numpy(np.float64) for _, group in values[kept].groupby(clients[kept].to_numpy(), sort=True)]
    if not groups:
        return Estimate(float("nan"), float("nan"), float("nan"), float("nan"), 0, 0)
    if kept.sum() == 1:
        return Estimate(float(groups[0][0]), float("nan"), float("nan"), float("nan"), 1, 1)
    rng = np.random.default_rng(seed)
    # Means of resampled clips for every client, then resampled clients pick among them.
    inner = np.stack([rng.choice(group, (resamples, len(group))).mean(axis=1) for group in groups])
    chosen = rng.integers(0, len(groups), (resamples, len(groups)))
    draws = inner[chosen, np.arange(resamples)[:, None]].mean(axis=1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    means = np.array([group.mean() for group in groups])
    return Estimate(float(means.mean()), standard_error(means), float(low), float(high), int(kept.sum()), len(groups))


def paired_permutation(differences: Values, seed: int, permutations: int = 10_000) -> float:
    """Two-sided p of a zero mean difference, under independent sign flips of each client's difference [K].

    Exact for up to 13 clients. The smallest p that K clients allow is 2 / 2^K.
    """
    if len(differences) == 0:
        return float("nan")
    if len(differences) <= EXACT_CLIENTS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(differences))))
        exact = True
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), (permutations, len(differences)))
        exact = False
    observed = abs(differences.mean())
    # A tolerance, because rounding must not separate sums that are equal.
    extreme = int((np.abs(signs @ differences) / len(differences) >= observed * (1 - 1e-9)).sum())
    return extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment (1979): the family-wise error stays below α for any dependence."""
    known = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted: dict[str, float] = {name: float("nan") for name in p_values}
    highest = 0.0
    for rank, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[name] = highest
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """How much `method` differs from `baseline` on one metric, client by client, on the same clips."""

    metric: str
    method: str
    baseline: str
    difference: float
    standard_error: float
    clients: int
    clients_higher: int
    p: float
    p_holm: float


def compare(
    table: pd.DataFrame, pairs: Sequence[tuple[str, str]], metrics: Sequence[str], seed: int = 0
) -> list[Comparison]:
    """Compare each (method, baseline) on every metric; Holm corrects over the pairs within a metric.

    `table` has the columns method, client, clip_id, metric, value. Only clips that both methods have count. An absent
    metric or method gives no comparison.
    """
    found: list[Comparison] = []
    for metric in metrics:
        rows = table[table["metric"] == metric]
        wide = rows.pivot_table(index=["client", "clip_id"], columns="method", values="value", dropna=False)
        differences = {
            (method, baseline): _client_differences(wide, method, baseline)
            for method, baseline in pairs
            if method in wide and baseline in wide
        }
        p = {f"{a}|{b}": paired_permutation(values, seed) for (a, b), values in differences.items()}
        adjusted = holm(p)
        found += [
            Comparison(
                metric,
                method,
                baseline,
                difference=float(values.mean()) if len(values) else float("nan"),
                standard_error=standard_error(values),
                clients=len(values),
                clients_higher=int((values > 0).sum()),
                p=p[f"{method}|{baseline}"],
                p_holm=adjusted[f"{method}|{baseline}"],
            )
            for (method, baseline), values in differences.items()
        ]
    return found


def _client_differences(wide: pd.DataFrame, method: str, baseline: str) -> Values:
    difference = wide[method] - wide[baseline]
    return client_means(difference, difference.index.to_frame()["client"]).to_numpy(np.float64)
