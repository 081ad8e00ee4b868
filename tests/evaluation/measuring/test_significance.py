"""Intervals, permutation tests and Holm's correction against SciPy, closed forms and known coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from evaluation.measuring.significance import client_means, estimate, holm, paired_permutation, standard_error


def test_exact_permutation_is_scipys() -> None:
    differences = np.random.default_rng(3).normal(0.5, 1, 8)
    library = permutation_test(  # type: ignore[call-overload]  # the stubs know no endless n_resamples
        (differences, np.zeros(8)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert paired_permutation(differences, seed=0) == pytest.approx(library.pvalue)


def test_the_smallest_p_of_eight_clients() -> None:
    assert paired_permutation(np.ones(8), seed=0) == pytest.approx(2 / 256)
    assert np.isnan(paired_permutation(np.array([]), seed=0))


def test_sampled_permutation_is_uniform_without_an_effect() -> None:
    rng = np.random.default_rng(0)
    p = [paired_permutation(rng.normal(0, 1, 20), seed=1, permutations=400) for _ in range(200)]
    assert 0.42 < float(np.mean(p)) < 0.58
    assert float(np.mean(np.array(p) < 0.05)) < 0.11


def test_holm_by_hand() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": float("nan")})
    assert adjusted["d"] == pytest.approx(0.02)
    assert adjusted["a"] == pytest.approx(0.03)
    assert adjusted["c"] == adjusted["b"] == pytest.approx(0.06)
    assert np.isnan(adjusted["e"])


def test_the_interval_counts_clients_not_clips() -> None:
    """Two clients far apart: many clips each must not make the interval narrow."""
    values = pd.Series([0.0] * 100 + [1.0] * 100)
    clients = pd.Series(["a"] * 100 + ["b"] * 100)
    found = estimate(values, clients, seed=0)
    assert (found.mean, found.n, found.clients) == (0.5, 200, 2)
    assert (found.low, found.high) == (0, 1)
    assert found.standard_error == pytest.approx(0.5)


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        means = rng.normal(0, 1, 12)
        values = pd.Series((means[:, None] + rng.normal(0, 0.5, (12, 3))).ravel())
        found = estimate(values, pd.Series(np.repeat(np.arange(12), 3)), seed=trial, resamples=300)
        covered += found.low <= 0 <= found.high
    assert 50 <= covered <= 60


def test_undefined_clips_do_not_count() -> None:
    values, clients = pd.Series([1.0, np.nan, 3.0]), pd.Series(["a", "a", "b"])
    assert client_means(values, clients).to_dict() == {"a": 1.0, "b": 3.0}
    assert estimate(values, clients, seed=0).n == 2
    assert np.isnan(standard_error(np.array([1.0])))
    assert estimate(pd.Series([np.nan]), pd.Series(["a"]), seed=0).clients == 0
