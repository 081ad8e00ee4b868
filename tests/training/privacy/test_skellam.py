"""Distributed noise: its variance, its closure under addition, the grid and the ring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from preparation.errors import PrivFedTalkError
from training.privacy import release, skellam
from training.privacy.settings import PrivacySettings


@pytest.mark.parametrize("variance", [0.5, 40.0, 3e6, (2.0**20) ** 2 / 8])
def test_noise_has_mean_zero_and_the_wanted_variance(variance):
    noise = skellam.skellam_noise(variance, 200_000, np.random.default_rng(0)).astype(np.float64)
    assert abs(noise.mean()) < 5 * np.sqrt(variance / noise.size)
    assert noise.var() == pytest.approx(variance, rel=0.03)


def test_noise_is_skellam():
    noise = skellam.skellam_noise(9.0, 100_000, np.random.default_rng(1))
    values = np.arange(-8, 9)
    expected = stats.skellam.pmf(values, 4.5, 4.5)
    seen = np.array([(noise == value).sum() for value in values])
    rest = noise.size - seen.sum()
    chi = stats.chisquare([*seen, rest], [*(expected * noise.size), (1 - expected.sum()) * noise.size])
    assert chi.pvalue > 1e-4


def test_shares_of_the_smallest_round_add_up_to_the_wanted_noise():
    deviation, grid, survivors, colluders = 0.02, 2.0**-20, 7, 2
    variance = skellam.share_variance(deviation, grid, survivors, colluders)
    generators = [skellam.noise_generator(3, "run", k) for k in range(survivors - colluders)]
    total = sum(skellam.skellam_noise(variance, 100_000, generator) for generator in generators) * grid
    assert total.std() == pytest.approx(deviation, rel=0.01)
    assert stats.kstest(total[:20_000] / deviation, "norm").pvalue > 1e-4


def test_more_colluders_than_survivors_are_refused():
    with pytest.raises(PrivFedTalkError, match="colluders"):
        skellam.share_variance(1.0, 1.0, 3, 3)


def test_seeded_noise_repeats_by_name_and_noise_from_the_system_does_not():
    draw = lambda *arguments: skellam.skellam_noise(1e6, 50, skellam.noise_generator(*arguments)).tolist()  # noqa: E731
    assert draw(1, "run", 3, "c0001") == draw(1, "run", 3, "c0001")
    assert draw(1, "run", 3, "c0001") != draw(1, "run", 3, "c0002")
    assert draw(1, "a", "bc") != draw(1, "ab", "c")
    assert draw(None) != draw(None)


@given(
    arrays.arrays(np.float64, (5, 20), elements=st.floats(-1, 1)),
    st.sampled_from([skellam.Ring(32), skellam.Ring(64)]),
)
def test_without_noise_the_opened_sum_is_the_plain_sum_within_rounding(vectors, ring):
    grid = 2.0**-20
    elements = [ring.encode(skellam.quantise(vector, grid)) for vector in vectors]
    total = np.sum(elements, axis=0, dtype=ring.dtype)
    opened = skellam.dequantise(ring.decode(total), grid)
    assert np.abs(opened - vectors.sum(axis=0)).max() <= len(vectors) * grid / 2 + 1e-12


@given(st.integers(-(2**62), 2**62))
def test_the_ring_keeps_signed_integers(value):
    for ring in (skellam.Ring(64), skellam.Ring(32)):
        kept = (value + 2 ** (ring.bits - 1)) % 2**ring.bits - 2 ** (ring.bits - 1)
        assert ring.decode(ring.encode(np.array([value])))[0] == kept


@given(
    st.integers(1, 5000),
    st.floats(0, 20),
    st.floats(1e-3, 1e3),
)
def test_the_chosen_ring_holds_the_largest_sum(clients, z, C):
    settings = PrivacySettings(clip_norm=C, noise_multiplier=z)
    grid = C / skellam.STEPS_PER_CLIP
    bound, deviation = release.vector_norm_bound(settings), release.noise_deviation(settings)
    ring = skellam.choose_ring(bound, grid, deviation, clients)
    assert clients * bound / grid + 35 * deviation / grid < 2 ** (ring.bits - 1)


def test_a_sum_that_would_wrap_is_refused():
    with pytest.raises(PrivFedTalkError, match="wrap"):
        skellam.choose_ring(1.0, 2.0**-20, 1e12, 10)
    with pytest.raises(PrivFedTalkError, match="not finite"):
        skellam.quantise(np.array([np.nan]), 1.0)


@given(arrays.arrays(np.float64, 64, elements=st.floats(-1e3, 1e3)))
def test_rounding_stays_within_the_accounted_sensitivity(vector):
    bound, grid = float(np.linalg.norm(vector)), 0.25
    l2, l1 = skellam.integer_sensitivities(bound, grid, vector.size)
    integers = skellam.quantise(vector, grid)
    assert np.linalg.norm(integers) <= l2
    assert np.abs(integers).sum() <= l1
