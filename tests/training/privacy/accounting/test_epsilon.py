"""ε against published values, against a second library, and against exact divergences in one dimension."""

from __future__ import annotations

import math
import warnings

import dp_accounting
import numpy as np
import pytest
from dp_accounting import NeighboringRelation, rdp
from scipy import special, stats

from common.errors import PrivFedTalkError
from training.privacy.accounting import epsilon as accounting
from training.privacy.accounting import skellam_rdp
from training.privacy.accounting.epsilon import epsilon_release, epsilon_server
from training.privacy.accounting.guarantee import epsilon_towards_clients, epsilons
from training.privacy.accounting.schedule import Sampling, Schedule
from training.privacy.accounting.skellam_rdp import SkellamNoise
from training.settings.privacy import PrivacySettings

# (clients, rounds, noise multiplier) at 10 clients a round and δ = N^-1.1 → ε_release, Poisson sampling.
REFERENCE = [
    (1000, 1000, 1.0, "1.27"),
    (1000, 1000, 0.5, "9.51"),
    (1000, 100, 1.0, "0.39"),
    (100, 100, 1.0, "3.72"),
    (100, 1000, 1.0, "17.01"),
    (100, 1000, 2.0, "5.04"),
]


@pytest.mark.parametrize(("clients", "rounds", "z", "expected"), REFERENCE)
def test_poisson_sampling_matches_the_reference_table(clients: int, rounds: int, z: float, expected: str) -> None:
    delta = clients**-1.1
    epsilon = epsilon_release(Schedule(clients, 10, rounds), z, delta)
    assert f"{epsilon.value:.2f}" == expected
    assert epsilon.accountant == "PLD (Poisson)"
    # PRV reports an upper bound that lies eps_error above its own estimate.
    prv = accounting.poisson_prv(10 / clients, z, rounds, delta, eps_error=0.01)
    assert abs(prv - 0.01 - epsilon.value) < 0.01


def test_fixed_size_cohorts_are_accounted_by_their_own_theorem() -> None:
    epsilon = epsilon_release(Schedule(1000, 10, 1000, "fixed"), 1.0, 1000**-1.1)
    assert f"{epsilon.value:.1f}" == "17.1"
    assert "without replacement" in epsilon.accountant


@pytest.mark.parametrize(("participations", "expected"), [(10, "14.7"), (20, "24.0")])
def test_the_servers_view_composes_what_a_client_took_part_in(participations: int, expected: str) -> None:
    epsilon = epsilon_server(Schedule(1000, 10, 1000), 1.0, 1000**-1.1, participations)
    assert f"{epsilon.value:.1f}" == expected


def test_full_participation_gains_nothing_from_sampling() -> None:
    schedule = Schedule(8, 8, 10, "full")
    assert epsilon_release(schedule, 1.0, 0.01) == epsilon_server(schedule, 1.0, 0.01)
    poisson = epsilon_release(Schedule(8, 8, 10), 1.0, 0.01)
    assert poisson.value == pytest.approx(epsilon_server(schedule, 1.0, 0.01).value)


@pytest.mark.parametrize("z", [0.001, 0.01, 0.05, 0.3])
@pytest.mark.parametrize(("per_round", "sampling"), [(8, "full"), (4, "poisson"), (4, "fixed")])
@pytest.mark.parametrize("distributed", [False, True])
def test_tiny_noise_gives_a_large_but_finite_epsilon(
    z: float, per_round: int, sampling: Sampling, distributed: bool
) -> None:
    schedule = Schedule(8, per_round, 10, sampling)
    skellam = SkellamNoise.of(z, 200_000) if distributed else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        epsilon = epsilon_release(schedule, z, 8**-1.1, skellam)
    exact = epsilon_server(schedule, z, 8**-1.1, participation=10).value
    assert 0 < epsilon.value < math.inf
    assert epsilon.value <= 1.12 * exact  # RDP is a little loose where epsilon is moderate
    if z <= 0.05:  # then the mean of the privacy loss, k/2z², is nearly all there is to epsilon
        assert exact == pytest.approx(10 / (2 * z**2), rel=0.05)


def test_no_noise_and_no_rounds() -> None:
    assert epsilon_release(Schedule(10, 10, 5, "full"), 0.0, 0.01).value == math.inf
    assert epsilon_release(Schedule(10, 5, 5), 0.0, 0.01).value == math.inf
    assert epsilon_release(Schedule(10, 5, 0), 1.0, 0.01).value == 0


def test_distributed_noise_costs_little_more_than_gaussian_noise_of_the_same_size() -> None:
    skellam = SkellamNoise.of(1.0, 200_000)
    for schedule in (Schedule(1000, 10, 1000), Schedule(100, 100, 20, "full")):
        ours = epsilon_release(schedule, 1.0, 1e-3, skellam).value
        gaussian = epsilon_release(schedule, 1.0, 1e-3).value
        assert gaussian < ours < 1.3 * gaussian


def test_a_participation_cap_helps_only_as_far_as_it_is_proven() -> None:
    delta, free = 1000**-1.1, Schedule(1000, 10, 1000)
    rarely_binds = epsilon_release(Schedule(1000, 10, 1000, max_participation=40), 1.0, delta).value
    assert epsilon_release(free, 1.0, delta).value < rarely_binds < 2.0
    binds = epsilon_release(Schedule(1000, 10, 1000, max_participation=1), 1.0, delta)
    assert binds.value == epsilon_server(free, 1.0, delta, participation=1).value


@pytest.mark.parametrize("target", [1.0, 8.0])
@pytest.mark.parametrize("sampling", ["full", "fixed"])
def test_noise_for_epsilon_inverts_epsilon(target: float, sampling: Sampling) -> None:
    schedule = Schedule(200, 200 if sampling == "full" else 10, 100, sampling)
    z = accounting.noise_for_epsilon(schedule, target, 1e-3)
    assert epsilon_release(schedule, z, 1e-3).value <= target < epsilon_release(schedule, 0.995 * z, 1e-3).value


def test_noise_for_epsilon_with_distributed_noise() -> None:
    schedule = Schedule(1000, 10, 500)

    def distributed(at: Schedule, z: float, delta: float) -> accounting.Epsilon:
        return epsilon_release(at, z, delta, SkellamNoise.of(z, 50_000))

    z = accounting.noise_for_epsilon(schedule, 3.0, 1e-4, distributed)
    assert 2.9 < distributed(schedule, z, 1e-4).value <= 3.0


def test_unreachable_or_senseless_requests_are_refused() -> None:
    for target in (0.0, -1.0):
        with pytest.raises(PrivFedTalkError, match="positive"):
            accounting.noise_for_epsilon(Schedule(10, 10, 5, "full"), target, 0.01)
    with pytest.raises(PrivFedTalkError, match="no noise multiplier"):
        accounting.noise_for_epsilon(Schedule(10, 10, 10**9, "full"), 1e-4, 1e-15)
    with pytest.raises(PrivFedTalkError, match="all clients"):
        Schedule(10, 11, 5)
    with pytest.raises(PrivFedTalkError, match="full"):
        Schedule(10, 5, 5, "full")


# The Skellam curve against divergences summed exactly over the integers.


def _log_mass(mu: float, reach: int) -> np.ndarray:
    """log p(k), k = −reach … reach, of Skellam(μ)."""
    k = np.abs(np.arange(-reach, reach + 1))
    return np.log(special.ive(k, mu))


def _exact_divergence(log_p: np.ndarray, log_q: np.ndarray, order: float) -> float:
    return float(special.logsumexp(order * log_p + (1 - order) * log_q) / (order - 1))


@pytest.mark.parametrize("mu", [20.0, 400.0, 1e4])
@pytest.mark.parametrize("order", [1.02, 1.3, 1.9, 2.0, 2.5, 3.0, 5.0])
def test_the_curve_bounds_the_exact_divergence_and_is_close(mu: float, order: float) -> None:
    for shift in (1, 2, 5, 13):
        reach = int(9 * math.sqrt(mu)) + 6 * shift
        mass = _log_mass(mu, reach + shift)
        exact = _exact_divergence(mass[2 * shift :], mass[: -2 * shift], order)  # p(k + s) against p(k − s)
        bound = skellam_rdp.renyi_divergence(SkellamNoise(mu, 2 * shift, 2 * shift, 1), order)
        assert exact <= bound
        if mu >= 400 and shift >= 5 and order >= 1.3:
            assert bound < 1.1 * exact


@pytest.mark.parametrize("mu", [1.5, 10.0, 300.0, 5e3])
def test_the_second_difference_is_within_the_proofs_constant(mu: float) -> None:
    mass = _log_mass(mu, int(6 * math.sqrt(mu)) + 10)
    second = 2 * mass[1:-1] - mass[2:] - mass[:-2]
    assert second.max() <= skellam_rdp.curvature(mu) + 1e-12
    assert skellam_rdp.curvature(mu) < 1 / mu + 2 / mu**2
    assert second.argmax() == second.size // 2


@pytest.mark.parametrize("order", [2, 3, 7])
@pytest.mark.parametrize("q", [0.02, 0.5])
def test_the_dominating_gaussian_covers_sampled_skellam_noise(order: int, q: float) -> None:
    mu, shift = 400.0, 12
    noise = SkellamNoise(mu, shift, shift, 1)
    mass = _log_mass(mu, 400 + shift)
    log_q, log_p = mass[shift:-shift], mass[: -2 * shift]
    mixed = np.logaddexp(math.log(q) + log_p, math.log1p(-q) + log_q)
    worst = max(_exact_divergence(mixed, log_q, order), _exact_divergence(log_q, mixed, order))
    z = skellam_rdp.dominating_noise_multiplier(noise)
    gaussian = special.logsumexp(
        [
            math.log(math.comb(order, i)) + i * math.log(q) + (order - i) * math.log1p(-q) + i * (i - 1) / (2 * z**2)
            for i in range(order + 1)
        ]
    ) / (order - 1)
    assert worst <= gaussian < 1.1 * worst


# Another client, who knows its own share of the noise and the cohorts of its own rounds.


def _towards_clients(colluders: int, schedule: Schedule, mode: str = "distributed") -> float:
    settings = PrivacySettings(mode=mode, tolerated_colluders=colluders, noise_multiplier=2.0)
    return epsilon_towards_clients(settings, schedule, 1000, 1e-5).value


def test_a_client_knows_its_share_unless_a_colluder_is_tolerated() -> None:
    """Eight of eight, seven of whom must survive: who subtracts its own seventh sees noise smaller by √(6/7)."""
    everybody = Schedule(8, 8, 3, "full")
    mechanism = SkellamNoise.of(2.0, 1003, 1 / math.sqrt(0.95))
    server = epsilon_server(everybody, 2.0, 1e-5, skellam=mechanism).value
    less = epsilon_server(everybody, 2.0, 1e-5, skellam=mechanism.scaled(6 / 7)).value
    assert PrivacySettings().minimum_survivors(8) == 7
    assert _towards_clients(0, everybody) == pytest.approx(less) and less > server
    assert _towards_clients(1, everybody) == server
    assert _towards_clients(0, everybody, "central") == epsilon_server(everybody, 2.0, 1e-5).value


def test_under_poisson_sampling_a_client_knows_its_own_rounds_cohorts() -> None:
    """More than the released model tells, less than the server knows; without colluders, half the noise of a pair."""
    rare = Schedule(1000, 2, 200)
    release, server = epsilons(PrivacySettings(tolerated_colluders=1, noise_multiplier=2.0), rare, 1000, 1e-5)
    assert release.value < _towards_clients(1, rare) < server.value
    assert _towards_clients(0, rare) > 1.3 * _towards_clients(1, rare)
    assert _towards_clients(1, Schedule(1000, 2, 200, amplifies=False)) == server.value


def test_joint_rounds_are_counted_unamplified() -> None:
    """Against the hand-made composition: T sampled rounds, and plain ones for as many as both are likely in."""
    schedule, z = Schedule(100, 10, 100), 1.5
    both = int(stats.binom.isf(5e-6, 100, 0.01))
    accountant = rdp.RdpAccountant(accounting.INTEGER_ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    gaussian = dp_accounting.GaussianDpEvent(z)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(0.1, gaussian), 100)
    accountant.compose(gaussian, both)
    assert stats.binom.sf(both, 100, 0.01) <= 5e-6 < stats.binom.sf(both - 1, 100, 0.01)
    assert accounting.epsilon_client(schedule, z, 1e-5).value == pytest.approx(accountant.get_epsilon(5e-6))
