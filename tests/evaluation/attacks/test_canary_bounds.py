"""The audit's estimators against integrals, the exact Gaussian, and a mechanism whose epsilon is known."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from scipy import integrate, stats

from evaluation.attacks.canary_bounds import (
    epsilon_between,
    hockey_stick,
    iterate_score,
    lower_bound,
    one_shot,
    p_value,
)

PAIRS = [
    ((0.3, 1.0), (0.0, 1.0)),
    ((-0.3, 1.0), (0.0, 1.0)),
    ((1.2, 0.5), (0.0, 1.0)),
    ((0.1, 2.0), (0.0, 1.0)),
    ((0.0, 1.3), (0.0, 1.0)),
    ((0.0, 1.0), (0.0, 1.0)),
]


@pytest.mark.parametrize(("p", "q"), PAIRS)
@pytest.mark.parametrize("epsilon", [0.0, 0.2, 1.5])
def test_the_divergence_is_the_integral(p: tuple[float, float], q: tuple[float, float], epsilon: float) -> None:
    def excess(x: float) -> float:
        return max(0.0, stats.norm.pdf(x, *p) - math.exp(epsilon) * stats.norm.pdf(x, *q))

    expected, _ = integrate.quad(excess, -20, 20, limit=2000, points=np.linspace(-6, 6, 25))
    assert hockey_stick(p, q, epsilon) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("z", "delta"), [(0.3, 1e-5), (1.0, 1e-3), (5.0, 1e-2)])
def test_between_shifted_gaussians_epsilon_is_the_exact_one(z: float, delta: float) -> None:
    exact = dp_accounting.get_epsilon_gaussian(z, delta)
    assert epsilon_between((1.0, z), (0.0, z), delta) == pytest.approx(exact, abs=1e-5)


def test_far_apart_is_a_large_number_and_alike_is_none() -> None:
    assert 4e3 < epsilon_between((100.0, 1.0), (0.0, 1.0), 1e-3) < 6e3
    assert epsilon_between((0.0, 1.0), (0.0, 1.0), 1e-3) == 0.0


def test_the_one_shot_estimate_covers_the_truth() -> None:
    d, delta, z = 10_000, 1e-3, 1.0
    scores = np.random.default_rng(0).normal(1 / z, 1.0, 2000) / math.sqrt(d)
    found = one_shot(scores, d, delta)
    exact = dp_accounting.get_epsilon_gaussian(z, delta)
    assert found.low < exact < found.high and found.high - found.low < 1.5
    assert one_shot(scores, d, delta) == found


def test_a_rounds_score_is_the_likelihood_ratio() -> None:
    z, q = 0.7, 0.1
    y = np.array([-2.0, 0.0, 0.4, 3.0])
    here, there = stats.norm.pdf(y, 1, z), stats.norm.pdf(y, 0, z)
    np.testing.assert_allclose(iterate_score(y, q, z), np.log(1 - q + q * here / there), rtol=1e-9)
    np.testing.assert_allclose(iterate_score(y, 1.0, z), np.log(here / there), rtol=1e-9)


def test_the_p_value_is_the_theorems() -> None:
    r, v, epsilon, delta, M = 30, 24, 0.8, 1e-3, 50
    W = stats.binom(r, math.exp(epsilon) / (1 + math.exp(epsilon)))
    pmf = W.pmf(np.arange(r + 1))
    penalty = max(pmf[v - i : v].sum() / i for i in range(1, v + 1))
    assert p_value(r, v, epsilon, delta, M) == pytest.approx(pmf[v:].sum() + 2 * M * delta * penalty)
    assert p_value(r, v, epsilon, 0.0, M) == pytest.approx(pmf[v:].sum())


def test_the_bound_holds_for_randomised_response_and_is_near_it() -> None:
    """A mechanism that tells each coin truthfully with odds e^epsilon: exactly what the bound assumes as the worst."""
    epsilon, rng = 1.0, np.random.default_rng(0)
    bounds = []
    for _ in range(300):
        included = rng.random(400) < 0.5
        truthful = rng.random(400) < math.exp(epsilon) / (1 + math.exp(epsilon))
        scores = np.where(included == truthful, 1.0, -1.0) + 1e-3 * rng.random(400)
        bounds.append(lower_bound(scores, included, 0.0, 0.95).value)
    assert np.mean(np.array(bounds) > epsilon) <= 0.08  # 5 % and three deviations of 300 trials
    assert 0.5 < np.mean(bounds) < 0.8


def test_scores_that_tell_nothing_bound_nothing() -> None:
    rng = np.random.default_rng(1)
    found = lower_bound(rng.random(300), rng.random(300) < 0.5, 1e-3, 0.95)
    assert found.value == 0.0 and found.guesses == 90
