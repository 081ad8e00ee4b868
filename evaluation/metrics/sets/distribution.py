"""Distances between the populations of generated and of true frames: KID and FID, on features [N, D].

The numbers are torch-fidelity's (0.4): its Inception, 2048-d, and its protocol for KID. They are not interchangeable
with clean-fid's. Below about 2,048 samples the covariance that FID needs is singular and FID's bias is large; KID is
therefore shown first, and n beside both. All methods of a table have the same n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.arrays import Floats, Values

KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020
"""torch-fidelity's defaults; where there are fewer samples than the subset size, a subset is all samples."""


@dataclass(frozen=True)
class KernelDistance:
    """KID: the mean of the squared maximum mean discrepancy over `subsets` subsets, and its standard deviation."""

    mean: float
    deviation: float
    subsets: int
    subset_size: int


def frechet_distance(features: Floats, others: Floats) -> float:
    """Fréchet distance between Gaussians fitted to features [N, D] and [M, D] (Heusel et al. 2017): FID, or FVD.

    |μ1 − μ2|² + tr Σ1 + tr Σ2 − 2 tr (Σ1 Σ2)^½. With Σ = AᵀA the last trace is the sum of the singular values of
    A1 A2ᵀ, which needs no matrix square root and stays exact where Σ is singular.
    """
    _check(features, others)
    x, y = features.astype(np.float64), others.astype(np.float64)
    root_x, root_y = _covariance_root(x), _covariance_root(y)
    shift = x.mean(0) - y.mean(0)
    shared = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    return float(shift @ shift + (root_x**2).sum() + (root_y**2).sum() - 2 * shared)


def kernel_distance(
    features: Floats,
    others: Floats,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = KID_SEED,
) -> KernelDistance:
    """KID (Bińkowski et al. 2018) between features [N, D] and [M, D], kernel (x·y / D + 1)³.

    The estimate is unbiased, so a value slightly below zero is possible.
    """
    _check(features, others)
    size = min(subset_size, len(features), len(others))
    if size == len(features) == len(others):
        subsets = 1  # every subset would be all of them
    rng = np.random.RandomState(seed)  # the generator and order of draws of torch-fidelity
    found = np.array(
        [
            squared_discrepancy(
                features[rng.choice(len(features), size, replace=False)],
                others[rng.choice(len(others), size, replace=False)],
            )
            for _ in range(subsets)
        ]
    )
    return KernelDistance(float(found.mean()), float(found.std()), subsets, size)


def squared_discrepancy(x: Floats, y: Floats) -> float:
    """The unbiased estimate of MMD² between samples [m, D] and [m, D] (Gretton et al. 2012, eq. 3)."""
    m = len(x)
    within = sum(_kernel(z, z).sum() - _kernel_diagonal(z).sum() for z in (x, y)) / (m * (m - 1))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: Floats, y: Floats) -> Values:
    return (x.astype(np.float64) @ y.T.astype(np.float64) / x.shape[1] + 1) ** 3


def _kernel_diagonal(x: Floats) -> Values:
    return ((x.astype(np.float64) ** 2).sum(1) / x.shape[1] + 1) ** 3


def _covariance_root(x: Values) -> Values:
    """A with AᵀA = Σ, the covariance of samples [N, D]: float64 [min(N, D), D]."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return centred if len(x) <= x.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def _check(features: Floats, others: Floats) -> None:
    assert features.ndim == others.ndim == 2 and features.shape[1] == others.shape[1], (
        f"features are [N, D] and [M, D], not {features.shape} and {others.shape}"
    )
    if min(len(features), len(others)) < 2:
        raise ValueError(f"{len(features)} and {len(others)} samples: a spread takes at least two of each")
