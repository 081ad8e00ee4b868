"""Distributed noise: its variance, its closure under addition, the grid and the ring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats

from common.errors import PrivFedTalkError
from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator
from training.privacy.accounting.epsilon import epsilon_server
from training.privacy.accounting.guarantee import skellam_mechanism
from training.privacy.accounting.schedule import Schedule
from training.privacy.accounting.skellam_rdp import SkellamNoise, composed_epsilon
from training.privacy.mechanisms import release
from training.privacy.mechanisms.central_gaussian import CentralGaussian
from training.privacy.mechanisms.distributed_skellam import share_variance
from training.privacy.mechanisms.grid import (
    STEPS_PER_CLIP,
    Ring,
    choose_ring,
    dequantise,
    integer_sensitivities,
    quantise,
    rounding_bound,
)
from training.privacy.mechanisms.noise import LARGEST_PART, LARGEST_RATE, gaussian_noise, noise_generator, skellam_noise
from training.settings.privacy import PrivacySettings


@pytest.mark.parametrize("variance", [0.5, 40.0, 3e6, (2.0**20) ** 2 / 8])
def test_noise_has_mean_zero_and_the_wanted_variance(variance: float) -> None:
    noise = skellam_noise(variance, 200_000, np.random.default_rng(0)).astype(np.float64)
    assert abs(noise.mean()) < 5 * np.sqrt(variance / noise.size)
    assert noise.var() == pytest.approx(variance, rel=0.03)


def test_noise_is_skellam() -> None:
    noise = skellam_noise(9.0, 100_000, np.random.default_rng(1))
    values = np.arange(-8, 9)
    expected = stats.skellam.pmf(values, 4.5, 4.5)
    seen = np.array([(noise == value).sum() for value in values])
    rest = noise.size - seen.sum()
    chi = stats.chisquare([*seen, rest], [*(expected * noise.size), (1 - expected.sum()) * noise.size])
    assert chi.pvalue > 1e-4


def test_shares_of_the_smallest_round_add_up_to_the_wanted_noise() -> None:
    deviation, grid, survivors, colluders = 0.02, 2.0**-20, 7, 2
    variance = share_variance(deviation, grid, survivors, colluders)
    generators = [noise_generator(3, "run", k) for k in range(survivors - colluders)]
    total = np.sum([skellam_noise(variance, 100_000, generator) for generator in generators], axis=0) * grid
    assert total.std() == pytest.approx(deviation, rel=0.01)
    assert stats.kstest(total[:20_000] / deviation, "norm").pvalue > 1e-4


def test_more_colluders_than_survivors_are_refused() -> None:
    with pytest.raises(PrivFedTalkError, match="colluders"):
        share_variance(1.0, 1.0, 3, 3)


def test_seeded_noise_repeats_by_name_and_noise_from_the_system_does_not() -> None:
    draw = lambda *arguments: skellam_noise(1e6, 50, noise_generator(*arguments)).tolist()  # noqa: E731
    assert draw(1, "run", 3, "c0001") == draw(1, "run", 3, "c0001")
    assert draw(1, "run", 3, "c0001") != draw(1, "run", 3, "c0002")
    assert draw(1, "a", "bc") != draw(1, "ab", "c")
    assert draw(None) != draw(None)


@given(
    arrays.arrays(np.float64, (5, 20), elements=st.floats(-1, 1)),
    st.sampled_from([Ring(32), Ring(64)]),
)
def test_without_noise_the_opened_sum_is_the_plain_sum_within_rounding(
    vectors: NDArray[np.float64], ring: Ring
) -> None:
    grid = 2.0**-20
    elements = [ring.encode(quantise(vector, grid)) for vector in vectors]
    total = np.sum(elements, axis=0, dtype=ring.dtype)
    opened = dequantise(ring.decode(total), grid)
    assert np.abs(opened - vectors.sum(axis=0)).max() <= len(vectors) * grid / 2 + 1e-12


@given(st.integers(-(2**62), 2**62))
def test_the_ring_keeps_signed_integers(value: int) -> None:
    for ring in (Ring(64), Ring(32)):
        kept = (value + 2 ** (ring.bits - 1)) % 2**ring.bits - 2 ** (ring.bits - 1)
        assert ring.decode(ring.encode(np.array([value])))[0] == kept


@given(
    st.integers(1, 5000),
    st.floats(0, 20),
    st.floats(1e-3, 1e3),
)
def test_the_chosen_ring_holds_the_largest_sum(clients: int, z: float, C: float) -> None:
    settings = PrivacySettings(clip_norm=C, noise_multiplier=z)
    grid = C / STEPS_PER_CLIP
    bound, deviation = release.vector_norm_bound(settings), release.noise_deviation(settings)
    ring = choose_ring(bound, grid, deviation, clients)
    assert clients * bound / grid + 35 * deviation / grid < 2 ** (ring.bits - 1)


def test_a_sum_that_would_wrap_is_refused() -> None:
    with pytest.raises(PrivFedTalkError, match="wrap"):
        choose_ring(1.0, 2.0**-20, 1e12, 10)
    with pytest.raises(PrivFedTalkError, match="not finite"):
        quantise(np.array([np.nan]), 1.0)


@given(arrays.arrays(np.float64, 64, elements=st.floats(-1e3, 1e3)), st.floats(1e-3, 1e4))
def test_rounding_stays_within_the_accounted_sensitivity(vector: NDArray[np.float64], grid: float) -> None:
    bound = float(np.linalg.norm(vector))
    l2, l1 = integer_sensitivities(bound, grid, vector.size)
    integers = quantise(vector, grid)
    assert np.linalg.norm(integers) <= l2 * (1 + 1e-12)
    assert np.abs(integers).sum() <= l1 * (1 + 1e-12)
    assert np.linalg.norm(integers * grid - vector) <= rounding_bound(bound, grid, vector.size) * (1 + 1e-12)


@pytest.mark.parametrize("steps", [0.0, 1.0, 30.0])
def test_the_sensitivity_of_rounding_is_reached(steps: float) -> None:
    """Every coordinate a hair beyond the middle between two points of the grid: no smaller bound would do."""
    vector = np.full(400, steps + 0.5 + 1e-9)
    l2, _ = integer_sensitivities(float(np.linalg.norm(vector)), 1.0, vector.size)
    assert np.linalg.norm(quantise(vector, 1.0)) == pytest.approx(l2, rel=1e-6)


# The range of plans: noise multipliers from a thousandth to a thousand, in one share or in a thousand.


@pytest.mark.parametrize("z", [1e-3, 0.17, 0.3, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("shares", [1, 7, 1000])
def test_variance_residues_and_tails_are_skellams_over_the_range_of_plans(z: float, shares: int) -> None:
    mechanism = SkellamNoise.of(z, 200_000, 1.026)
    variance, draws = mechanism.variance / shares, 400_000
    noise = skellam_noise(variance, draws, np.random.default_rng(11))
    deviation = np.sqrt(variance)
    assert abs(noise.mean()) < 5 * deviation / np.sqrt(draws)
    assert noise.astype(np.float64).var() == pytest.approx(variance, rel=5 * np.sqrt(2 / draws))
    assert stats.chisquare(np.bincount(noise % 8, minlength=8)).pvalue > 1e-4
    for out in (2.0, 3.0, 4.0):
        beyond = int(np.ceil(out * deviation))
        if variance < 1e6:
            expected = 2 * stats.skellam.sf(beyond - 1, variance / 2, variance / 2)
        else:
            expected = 2 * stats.norm.sf((beyond - 0.5) / deviation)
        seen = (np.abs(noise) >= beyond).sum()
        assert abs(seen - expected * draws) < 5 * np.sqrt(expected * draws) + 1
    if variance > 1e6:
        assert stats.kstest(noise[:100_000] / deviation, "norm").pvalue > 1e-4


@pytest.mark.parametrize("z", [1e-3, 0.05, 0.17, 0.24, 0.25, 1.0, 8.0, 1e3, 1e6])
@pytest.mark.parametrize("budget", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("C", [0.05, 1.0, 37.0])
def test_the_accounted_mechanism_is_the_one_that_clients_run(z: float, budget: float, C: float) -> None:
    settings = PrivacySettings(noise_multiplier=z, scalar_budget=budget, clip_norm=0.3)
    aggregator, d = Aggregator(settings, 10, 0, C, 1.0), 5000
    accounted = skellam_mechanism(settings, d, z)
    assert accounted is not None
    honest = settings.minimum_survivors(10) - settings.tolerated_colluders
    assert aggregator.mechanism.terms.share_variance * honest == pytest.approx(accounted.variance, rel=1e-12)
    bound = release.vector_norm_bound(settings, C)
    rounded = integer_sensitivities(bound, aggregator.mechanism.grid, d + settings.scalars)
    assert rounded == pytest.approx((accounted.l2, accounted.l1), rel=1e-12)
    assert accounted.variance <= (2.0**18) ** 2 * (1 + 1e-12)
    if z <= 0.17 and budget <= 0.05:
        assert aggregator.mechanism.grid == C / 2**20


def test_a_coarse_grid_costs_what_it_adds_to_the_sensitivity() -> None:
    """ε falls as z grows, never below the exact Gaussian's at the same z; the share of a fine grid's is bounded."""
    noises = (0.2, 0.3, 1.0, 10.0, 100.0, 1e3)
    values = [composed_epsilon(SkellamNoise.of(z, 1_000_000), 100, 1e-6) for z in noises]
    finer = [composed_epsilon(SkellamNoise.of(z, 1_000_000, steps=2**20), 100, 1e-6) for z in noises]
    gaussian = [epsilon_server(Schedule(10, 10, 100, "full"), z, 1e-6).value for z in noises]
    assert values == sorted(values, reverse=True)
    assert all(ours > exact for ours, exact in zip(values, gaussian, strict=True))
    ratios = np.array(values) / finer
    assert (ratios[:4] < [1.0001, 1.002, 1.01, 1.05]).all() and (ratios < 4.5).all()


@pytest.mark.parametrize("rate", [1.0, 2.0**31, 2.0**34])
def test_a_seed_gives_small_noise_as_ever(rate: float) -> None:
    one, other = (np.random.default_rng(2) for _ in range(2))
    plain = other.poisson(rate, 1000) - other.poisson(rate, 1000)
    np.testing.assert_array_equal(skellam_noise(2 * rate, 1000, one), plain)


def test_large_rates_are_drawn_in_parts_and_larger_ones_refused() -> None:
    variance = 2 * LARGEST_RATE
    noise = skellam_noise(variance, 20_000, np.random.default_rng(5))
    assert noise.astype(np.float64).var() == pytest.approx(variance, rel=0.05)
    assert stats.chisquare(np.bincount(noise % 8, minlength=8)).pvalue > 1e-4
    assert stats.kstest(noise / np.sqrt(variance), "norm").pvalue > 1e-4
    one, other = (np.random.default_rng(2) for _ in range(2))
    halves = [other.poisson(0.75 * LARGEST_PART, 1000) for _ in range(4)]
    whole = skellam_noise(2 * 1.5 * LARGEST_PART, 1000, one)
    np.testing.assert_array_equal(whole, halves[0] - halves[1] + halves[2] - halves[3])
    for refused in (1.01 * variance, 2.0**55, np.inf, np.nan, -1.0):
        with pytest.raises(PrivFedTalkError, match="drawn correctly"):
            skellam_noise(refused, 3, np.random.default_rng(0))


# Central mode: the exact accounting knows of no grid.


def _steep_update(d: int, steps: float) -> LocalUpdate:
    """An update of norm a hair under C = 1 each coordinate of which is just beyond the middle of two grid points."""
    return LocalUpdate(np.full(d, steps / 2**20, np.float32), 16, 1.0, {}, 0.0)


def test_central_noise_pays_for_the_grid_that_masks_need() -> None:
    settings, d = PrivacySettings(mode="central", seeded_noise=1), 40_000
    aggregator = Aggregator(settings, 3, 0, 1.0, 1.0)
    assert isinstance(aggregator.mechanism, CentralGaussian)
    sent = {name: aggregator.contribute(name, _steep_update(d, 5242.51), 1) for name in "abc"}
    norm = float(np.linalg.norm(aggregator.mechanism.ring.decode(sent["a"].vector) * aggregator.mechanism.grid))
    assert norm > aggregator.mechanism.deviation / settings.noise_multiplier  # rounding took it beyond S
    assert norm <= aggregator.mechanism.server_deviation(d + 3) / settings.noise_multiplier
    steps = np.sum([aggregator.mechanism.ring.decode(one.vector) for one in sent.values()], axis=0)
    plain = steps * aggregator.mechanism.grid
    noise = aggregator.combine(sent, 1).total.update - plain[:d]
    drawn = gaussian_noise(aggregator.mechanism.server_deviation(d + 3), d + 3, noise_generator(1, 0, "server", 1))
    np.testing.assert_allclose(noise, drawn[:d], atol=1e-9)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_without_masks_a_vectors_norm_does_not_grow_as_float32(seed: int, d: int) -> None:
    settings = PrivacySettings(mode="central", secure_aggregation=False)
    aggregator = Aggregator(settings, 3, 0, 1.0, 1.0)
    update = LocalUpdate(np.random.default_rng(seed).normal(size=d).astype(np.float32), 16, 1.0, {}, 0.0)
    vector = aggregator.contribute("a", update, 1).vector.astype(np.float64)
    assert np.linalg.norm(vector) <= release.vector_norm_bound(settings)
    assert isinstance(aggregator.mechanism, CentralGaussian)
    assert aggregator.mechanism.server_deviation(d + 3) == aggregator.mechanism.deviation
