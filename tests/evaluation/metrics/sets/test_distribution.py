"""FID and KID against torch-fidelity's own arithmetic, and against Gaussians whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from evaluation.metrics.sets.distribution import frechet_distance, kernel_distance

RNG = np.random.default_rng(0)


def features(count: int, width: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated, non-negative features, as a pooled layer gives them."""
    mixing = np.random.default_rng(7).normal(size=(width, width)) / width**0.5
    return np.maximum(RNG.normal(shift, scale, (count, width)) @ mixing, 0).astype(np.float32)


@pytest.mark.parametrize(("n", "m", "width"), [(300, 250, 64), (40, 50, 96), (64, 64, 64)])
def test_fid_is_torch_fidelitys(n: int, m: int, width: int) -> None:
    x, y = features(n, width), features(m, width, 0.3, 1.4)
    one, two = (fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y))
    theirs = fid_statistics_to_metric(one, two, verbose=False)["frechet_inception_distance"]
    # Theirs takes eigenvalues of a singular product where n < D: its own error is what remains.
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-4 if n > width else 2e-3)


def test_fid_between_gaussians_of_known_distance() -> None:
    """Diagonal Gaussians: |shift|² + Σ (σ1 − σ2)²."""
    x = RNG.normal(0, 1, (200_000, 4))
    y = RNG.normal(0.5, 2, (200_000, 4))
    assert frechet_distance(x.astype(np.float32), y.astype(np.float32)) == pytest.approx(4 * 0.25 + 4, rel=0.02)
    assert frechet_distance(y.astype(np.float32), y.astype(np.float32)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "size"), [(120, 150, 50), (60, 60, 59)])
def test_kid_is_torch_fidelitys(n: int, m: int, size: int) -> None:
    x, y = features(n, 96), features(m, 96, 0.2)
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=20, kid_subset_size=size, verbose=False
    )
    ours = kernel_distance(x, y, subsets=20, subset_size=size)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours.deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_few_samples_are_one_subset_and_say_so() -> None:
    x, y = features(80, 96), features(80, 96, 0.2)
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=3, kid_subset_size=80, verbose=False
    )
    ours = kernel_distance(x, y)
    assert (ours.subsets, ours.subset_size, ours.deviation) == (1, 80, 0.0)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_kid_is_unbiased() -> None:
    """Two samples of one population: the mean over many pairs is zero, so single values fall on both sides."""
    found = [kernel_distance(features(50, 32), features(50, 32)).mean for _ in range(60)]
    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 4 * np.std(found) / 60**0.5


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(features(1, 8), features(5, 8))
    with pytest.raises(AssertionError, match=r"\(5, 8\) and \(5, 9\)"):
        kernel_distance(features(5, 8), features(5, 9))
