"""Random allocation: bounds from above and below, a simulation of a small case, and what else a schedule may bring."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from training.privacy.accounting.allocation import allocation_bound, allocation_epsilon
from training.privacy.accounting.epsilon import (
    Epsilon,
    Release,
    epsilon_client,
    epsilon_release,
    epsilon_server,
    epsilon_together,
    poisson_rdp,
)
from training.privacy.accounting.schedule import Schedule
from training.privacy.accounting.skellam_rdp import SkellamNoise

HUNDRED = Schedule(1000, 100, 100, "allocation")  # ten blocks of ten rounds


def epsilon_of(length: int, z: float, blocks: int, delta: float) -> float:
    return allocation_epsilon(length, z, blocks, delta, poisson_rdp(1 / length, z, length * blocks, delta))


@pytest.mark.parametrize(
    ("length", "z", "blocks", "delta"),
    [(10, 0.81, 10, 5e-4), (10, 2.0, 1, 1e-6), (3, 1.0, 2, 1e-5), (100, 0.5, 10, 1e-5), (10, 5.0, 10, 1e-6)],
)
def test_the_bound_is_close_to_one_from_below(length: int, z: float, blocks: int, delta: float) -> None:
    value = epsilon_of(length, z, blocks, delta)
    below = allocation_bound(length, z, blocks, delta, value / 20, upper=False)
    assert below <= value <= 1.12 * below


@pytest.mark.parametrize(("length", "z"), [(2, 1.0), (3, 0.8), (5, 1.5)])
def test_one_block_against_a_simulation(length: int, z: float) -> None:
    """The block's sums with the client in a random one, [n, t], against the same noise alone, in both directions."""
    delta, draws = 1e-2, 400_000
    rng = np.random.default_rng(0)
    noise = rng.normal(0, z, (draws, length))
    drawn = noise.copy()
    drawn[np.arange(draws), rng.integers(length, size=draws)] += 1

    def loss(sums: np.ndarray) -> np.ndarray:
        """log of the density with the client over that without."""
        return np.log(np.exp((2 * sums - 1) / (2 * z**2)).mean(1))

    with_client, without = loss(drawn), -loss(noise)

    def delta_at(epsilon: float) -> float:
        return max(np.maximum(0, 1 - np.exp(epsilon - losses)).mean() for losses in (with_client, without))

    value = epsilon_of(length, z, 1, delta)
    assert delta_at(value) <= 1.03 * delta  # 0.5 % is one deviation of the simulation
    assert delta_at(0.9 * value) >= delta


def test_it_costs_less_than_poisson_cohorts_and_far_less_than_fixed_ones() -> None:
    """At N = 1,000, 100 a round, 100 rounds, z = 0.81, δ = N^-1.1, Feldman and Shenfeld's package has 7.07."""
    value = {
        sampling: epsilon_release(replace(HUNDRED, sampling=sampling), 0.81, 1000**-1.1)
        for sampling in ("allocation", "poisson", "fixed")
    }
    assert value["allocation"].accountant == "PLD (random allocation)"
    assert 7.07 <= value["allocation"].value <= 7.35
    assert value["poisson"].value == pytest.approx(7.89, abs=0.02)
    assert value["fixed"].accountant != value["allocation"].accountant and value["fixed"].value > 15


def test_who_knows_the_cohorts_counts_one_round_a_block() -> None:
    assert HUNDRED.participation == HUNDRED.participation_but_for(1e-6) == HUNDRED.blocks == 10
    composed = epsilon_server(HUNDRED, 1.0, 1e-5, participation=10)
    assert epsilon_server(HUNDRED, 1.0, 1e-5) == composed == epsilon_client(HUNDRED, 1.0, 1e-5)
    assert epsilon_release(HUNDRED, 1.0, 1e-5).value < composed.value
    assert epsilon_release(replace(HUNDRED, amplifies=False), 1.0, 1e-5) == composed


def test_a_begun_block_costs_as_much_as_a_whole_one_and_no_less_than_those_before() -> None:
    costs = [epsilon_release(replace(HUNDRED, rounds=rounds), 1.0, 1e-5).value for rounds in (0, 1, 10, 11, 20)]
    assert costs[0] == 0 and costs[1] == costs[2] < costs[3] == costs[4]


def test_a_cap_ends_what_a_client_spends() -> None:
    capped = replace(HUNDRED, max_participation=3)
    assert epsilon_release(capped, 1.0, 1e-5) == epsilon_release(replace(HUNDRED, rounds=30), 1.0, 1e-5)


def test_a_repeated_round_is_a_second_look_and_not_a_new_draw() -> None:
    repeated = HUNDRED.repeating(1)
    assert (repeated.rounds, repeated.repeats, repeated.participation) == (100, 1, 11)
    once, twice = (epsilon_release(one, 2.0, 1e-5).value for one in (HUNDRED, repeated))
    assert twice > once
    assert twice == pytest.approx(epsilon_release(HUNDRED, 2.0 / math.sqrt(2), 1e-5).value)
    poisson = replace(HUNDRED, sampling="poisson").repeating(2)
    assert (poisson.rounds, poisson.repeats) == (102, 0)


def test_no_amplification_is_claimed_under_skellam_noise() -> None:
    skellam = SkellamNoise.of(1.0, 1000)
    assert epsilon_release(HUNDRED, 1.0, 1e-5, skellam) == epsilon_server(HUNDRED, 1.0, 1e-5, skellam=skellam)


def test_releases_together_are_added_up() -> None:
    one = Release(HUNDRED, 1.0)
    each = epsilon_release(HUNDRED, 1.0, 5e-6).value
    assert epsilon_together([one, one], 1e-5) == Epsilon(2 * each, "sum of 2 releases")


@pytest.mark.parametrize("clients", [7, 10, 49, 999])
@pytest.mark.parametrize("per_round", [1, 3, 7])
def test_blocks_are_as_long_as_a_rounds_mean_allows(clients: int, per_round: int) -> None:
    schedule = Schedule(clients, per_round, 1, "allocation")
    length = schedule.block_length
    assert clients / length <= per_round < clients / (length - 1) if length > 1 else clients == per_round
    assert schedule.rate == 1 / length
    # As many as are asked for to the last bit, where sums are divided by them.
    assert Schedule(clients, per_round, 1, "poisson").mean_cohort == per_round


@pytest.mark.parametrize("z", [1e-3, 0.05, 1e3, 1e6])
@pytest.mark.parametrize("clients", [4, 10**4, 10**12])
def test_noise_and_populations_of_any_size_have_an_epsilon(z: float, clients: int) -> None:
    for rounds in (1, 10**4):
        schedule = Schedule(clients, 2, rounds, "allocation")
        value = epsilon_release(schedule, z, 1e-6).value
        assert 0 <= value <= epsilon_server(schedule, z, 1e-6).value < math.inf
