"""The bounded ISFA update: bounded for anything, FedAvg and the paper's weights where they should appear."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from training.privacy.mechanisms import release
from training.settings.privacy import PrivacySettings

ANYTHING = st.floats(allow_nan=True, allow_infinity=True)
SETTINGS = PrivacySettings(clip_norm=0.7, n_max=20)


@given(
    delta=arrays.arrays(np.float64, st.integers(1, 40), elements=ANYTHING),
    n_k=ANYTHING,
    score=ANYTHING,
    metric=ANYTHING,
    gamma=st.floats(0, 50),
)
def test_no_client_exceeds_the_norm_bound_whatever_it_holds(
    delta: NDArray[np.float64], n_k: float, score: float, metric: float, gamma: float
) -> None:
    settings = SETTINGS.model_copy(update={"gamma": gamma})
    vector = release.client_vector(delta, n_k, score, {"score": metric}, settings)
    assert vector.shape == (delta.size + 3,)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector[: delta.size]) <= settings.clip_norm
    assert np.linalg.norm(vector) <= release.vector_norm_bound(settings)


@given(
    arrays.arrays(np.float32, 30, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.floats(1e-3, 1e3),
)
def test_clipping_keeps_short_updates_and_shortens_long_ones_along_themselves(
    delta: NDArray[np.float32], C: float
) -> None:
    clipped = release.clip(delta, C)
    norm = release.update_norm(delta)
    if norm < C * (1 - 1e-9):
        np.testing.assert_array_equal(clipped, delta.astype(np.float64))
    else:
        assert np.linalg.norm(clipped) <= C
        np.testing.assert_allclose(clipped, delta.astype(np.float64) / norm * C, rtol=1e-9, atol=1e-12 * C)


def test_an_update_that_is_not_finite_becomes_the_zero_vector() -> None:
    delta = np.array([1.0, np.nan, 2.0], dtype=np.float32)
    assert not release.client_vector(delta, 5, 0.9, {"score": 0.9}, SETTINGS).any()


def test_a_score_that_is_not_a_number_counts_as_zero() -> None:
    assert release.isfa_weight(5, math.nan, 10, 0.5) == release.isfa_weight(5, 0.0, 10, 0.5)
    assert release.isfa_weight(5, math.inf, 10, 0.5) == release.isfa_weight(5, 1.0, 10, 0.5) == 0.5


def test_weights_are_the_papers_up_to_the_common_factor() -> None:
    n, s, gamma = np.array([3, 8, 12, 5]), np.array([0.9, 0.2, 0.55, 1.0]), 0.5
    ours = np.array([release.isfa_weight(a, b, 20, gamma) for a, b in zip(n, s, strict=True)])
    paper = n * np.exp(gamma * s)
    np.testing.assert_allclose(ours / ours.sum(), paper / paper.sum(), rtol=1e-12)
    assert ((ours >= 0) & (ours <= 1)).all()


def _clients(generator: np.random.Generator, clients: int, d: int) -> list[tuple[np.ndarray, int, float]]:
    scales = generator.uniform(0.01, 0.4, clients)
    return [
        (
            scale * generator.normal(size=d).astype(np.float32),
            int(generator.integers(1, 15)),
            float(generator.uniform()),
        )
        for scale in scales
    ]


def test_the_sum_is_that_of_the_weighted_clipped_updates_and_of_the_scalars() -> None:
    clients, C = _clients(np.random.default_rng(1), 6, 50), 0.7
    vectors = [release.client_vector(delta, n, s, {"score": s}, SETTINGS) for delta, n, s in clients]
    reading = release.read_sum(np.sum(vectors, axis=0), len(clients), SETTINGS)

    expected, weights, within = np.zeros(50), 0.0, 0
    for delta, n, s in clients:
        a = min(n, 20) / 20 * math.exp(0.5 * (s - 1))
        norm = np.sqrt(np.sum(delta.astype(np.float64) ** 2))
        expected += a * delta * min(1, C / norm)
        weights, within = weights + a, within + (norm <= C)
    assert 0 < within < len(clients), "the test wants some clients on either side of C"
    np.testing.assert_allclose(reading.update, expected, atol=1e-9)
    assert reading.weight == pytest.approx(weights, abs=1e-9)
    assert reading.within_clip == pytest.approx(within, abs=1e-9)
    assert reading.metrics["score"] == pytest.approx(sum(s for _, _, s in clients), abs=1e-9)


def test_gamma_zero_is_fedavg() -> None:
    settings = PrivacySettings(clip_norm=100.0, n_max=20, gamma=0.0)
    clients = _clients(np.random.default_rng(2), 5, 30)
    total = np.sum([release.client_vector(d, n, s, {"score": s}, settings) for d, n, s in clients], axis=0)
    reading = release.read_sum(total, 5, settings)
    theta = np.arange(30, dtype=np.float32)
    stepped = release.server_step(theta, reading.update, eta=1.0, D=reading.weight)
    fedavg = np.average([d for d, _, _ in clients], axis=0, weights=[n for _, n, _ in clients])
    np.testing.assert_allclose(stepped, theta + fedavg, rtol=1e-7, atol=1e-9)


@given(z=st.floats(0.01, 10), beta=st.floats(0.001, 0.5), metrics=st.integers(0, 6))
def test_the_budget_split_adds_up(z: float, beta: float, metrics: int) -> None:
    settings = PrivacySettings(
        noise_multiplier=z, scalar_budget=beta, clip_norm=0.3, metrics=tuple(f"m{i}" for i in range(metrics))
    )
    noise = release.noise_deviation(settings)
    z_delta = noise / settings.clip_norm
    sigma = noise / release.scalar_scale(settings)
    assert z**-2 == pytest.approx(z_delta**-2 + settings.scalars * (0.5 / sigma) ** 2)


def test_one_client_moves_theta_by_at_most_eta_C_over_D() -> None:
    delta = np.full(1000, 1e30, dtype=np.float32)
    vector = release.client_vector(delta, 1e9, 7.0, {"score": 1.0}, SETTINGS)
    theta = np.zeros(1000)
    step = release.server_step(theta, release.read_sum(vector, 1, SETTINGS).update, eta=0.5, D=4.0)
    assert np.linalg.norm(step) <= 0.5 * SETTINGS.clip_norm / 4.0


def test_denominators_are_public_and_positive() -> None:
    assert release.fixed_denominator(0.1, 80, 0.5) == pytest.approx(4.0)
    lagged = release.LaggedDenominator(value=4.0, floor=1.0, decay=0.5)
    assert lagged.after(8.0).value == pytest.approx(6.0)
    assert lagged.after(-1e9).value == 1.0
    with pytest.raises(PrivFedTalkError, match="not positive"):
        release.server_step(np.zeros(2), np.zeros(2), 1.0, 0.0)


def test_adaptive_clipping_finds_the_quantile() -> None:
    settings = PrivacySettings(adaptive_clipping=True, clip_quantile=0.5)
    norms, C = np.random.default_rng(3).lognormal(size=501), 50.0
    for _ in range(300):
        C = release.adapted_clip_norm(C, float((norms <= C).mean()), settings)
    assert pytest.approx(np.median(norms), rel=0.02) == C


def test_metrics_must_be_those_of_the_settings() -> None:
    with pytest.raises(PrivFedTalkError, match="metrics"):
        release.client_vector(np.zeros(3), 1, 0.5, {}, SETTINGS)


def test_distributed_noise_without_a_hidden_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="secure_aggregation"):
        PrivacySettings(mode="distributed", secure_aggregation=False)


@given(cohort=st.integers(2, 200), threshold=st.floats(0.501, 1), floor=st.floats(0.01, 1))
def test_thresholds_are_a_majority_and_within_the_cohort(cohort: int, threshold: float, floor: float) -> None:
    settings = PrivacySettings(threshold=threshold, survivor_floor=floor)
    t, m_min = settings.share_threshold(cohort), settings.minimum_survivors(cohort)
    assert cohort // 2 < t <= m_min <= cohort


@pytest.mark.parametrize(
    ("clips", "score", "weight"),
    [
        (5, 0.5, 0.25 * math.exp(-0.5)),
        (20, 1.0, 1.0),
        (99, 7.0, 1.0),
        (-3, 1.0, 0.0),
        (math.nan, 1.0, 0.0),
        (math.inf, 1.0, 0.0),
        (5, -2.0, 0.25 * math.exp(-1)),
        (5, math.nan, 0.25 * math.exp(-1)),
        (5, math.inf, 0.25),
        (5, -math.inf, 0.25 * math.exp(-1)),
    ],
)
def test_a_weight_is_within_zero_and_one_whatever_is_counted(clips: float, score: float, weight: float) -> None:
    assert release.isfa_weight(clips, score, 20, 1.0) == pytest.approx(weight, rel=1e-12)


@pytest.mark.parametrize(("metric", "told"), [(0.3, 0.3), (2.0, 1.0), (-1.0, 0.0), (math.nan, 0.5)])
@pytest.mark.parametrize("clip_norm", [None, 0.1, 5.0])
def test_a_sum_over_one_is_read_as_what_the_client_told(metric: float, told: float, clip_norm: float | None) -> None:
    delta = np.full(9, 0.2)  # of norm 0.6
    C, weight = clip_norm or 0.7, release.isfa_weight(5, 0.5, 20, SETTINGS.gamma)
    read = release.read_sum(
        release.client_vector(delta, 5, 0.5, {"score": metric}, SETTINGS, clip_norm), 1, SETTINGS, clip_norm
    )
    assert read.weight == pytest.approx(weight) and read.within_clip == pytest.approx(float(C >= 0.6))
    assert read.metrics == {"score": pytest.approx(told)} and read.clients == 1
    np.testing.assert_allclose(read.update, weight * delta * min(1.0, C / 0.6), rtol=1e-9)
    other = release.read_sum(np.zeros(9 + SETTINGS.scalars), 1, SETTINGS, clip_norm, seen=4.0)
    assert (other.weight, other.within_clip, other.metrics, other.clients) == (2.0, 2.0, {"score": 2.0}, 1)


def test_norms_of_nothing_and_of_what_is_not_finite() -> None:
    assert release.update_norm(np.zeros(3)) == release.update_norm(np.zeros(0)) == 0.0
    assert release.update_norm(np.array([1.0, math.inf])) == math.inf
    assert release.update_norm(np.array([3e300, 4e300])) == pytest.approx(5e300)
    np.testing.assert_array_equal(release.clip(np.zeros(3), 0.5), np.zeros(3))


def test_a_share_that_noise_moved_out_of_range_moves_the_norm_no_further() -> None:
    settings = SETTINGS.model_copy(update={"clip_quantile": 0.5, "clip_learning_rate": 0.2})
    for share, counted in ((-3.0, 0.0), (0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (9.0, 1.0)):
        moved = release.adapted_clip_norm(0.7, share, settings)
        assert moved == pytest.approx(0.7 * math.exp(-0.2 * (counted - 0.5)))
    with pytest.raises(PrivFedTalkError, match="not positive"):
        release.server_step(np.zeros(2), np.ones(2), 1.0, 0.0)


@pytest.mark.parametrize("clip_norm", [None, 0.1, 5.0])
def test_the_rounds_own_norm_bounds_scalars_and_update_alike(clip_norm: float | None) -> None:
    """Where adaptive clipping moved C down, scalars at the scale of the settings' C would go beyond the bound."""
    vector = release.client_vector(np.full(9, 1e9), 99, 1.0, {"score": 1.0}, SETTINGS, clip_norm)
    bound = release.vector_norm_bound(SETTINGS, clip_norm)
    assert np.linalg.norm(vector) == pytest.approx(bound, rel=1e-9) and np.linalg.norm(vector) <= bound
    assert np.linalg.norm(vector[:9]) == pytest.approx(clip_norm or 0.7, rel=1e-9)
