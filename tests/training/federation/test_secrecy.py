"""The noise that a round's opened sum carries, measured: as much as is accounted for, secret, and drawn once.

Noise is measured on clients whose updates count for nothing, so that the sum is noise alone. Bounds are five standard
errors and more: a false alarm comes less than once in a million runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from common.errors import PrivFedTalkError
from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator, Contribution
from training.privacy.accounting.guarantee import epsilons
from training.privacy.accounting.schedule import Schedule
from training.privacy.mechanisms.grid import choose_ring, dequantise, quantise
from training.privacy.mechanisms.noise import noise_generator
from training.privacy.mechanisms.poisson_sampling import PoissonSampling, steady_share
from training.privacy.secure_aggregation.messages import RoundAbortedError
from training.settings.privacy import PrivacySettings

C, Z, D = 0.5, 1.5, 40_000
TOLERANCE = 5.5 * math.sqrt(2 / D)
"""Of a variance estimated from D draws, relative."""
CORRELATION = 5.5 / math.sqrt(D)
"""Of the correlation of two independent vectors of D draws."""

DISTRIBUTED = PrivacySettings(clip_norm=C, noise_multiplier=Z, tolerated_colluders=0)
COLLUDING = DISTRIBUTED.model_copy(update={"tolerated_colluders": 3})
CENTRAL = DISTRIBUTED.model_copy(update={"mode": "central"})
OPEN = CENTRAL.model_copy(update={"secure_aggregation": False})
MODES = [DISTRIBUTED, COLLUDING, CENTRAL, OPEN]
NAMES = ["distributed", "colluders", "central under masks", "central"]


def broken(value: float = math.nan, clips: int = 9, score: float = 0.7, size: int = D) -> LocalUpdate:
    """An update that is not finite: it must count for nothing, scalars included."""
    delta = np.ones(size, np.float32)
    delta[size // 2] = value
    return LocalUpdate(delta, clips, score, {}, 0.0)


def aggregator_of(settings: PrivacySettings, cohort: int = 10, poisson: PoissonSampling | None = None) -> Aggregator:
    return Aggregator(settings, cohort, 0, settings.clip_norm, 5.0, poisson)


def contributions(aggregator: Aggregator, number: int = 1, size: int = D) -> dict[str, Contribution]:
    names = [f"c{k}" for k in range(aggregator.cohort)]
    return {name: aggregator.contribute(name, broken(size=size), number) for name in names}


def opened_noise(settings: PrivacySettings, number: int = 1, lost: int = 0, size: int = D) -> npt.NDArray[np.float64]:
    """The noise on the update's part of the sum of ten clients, of whom the first `lost` drop out."""
    aggregator = aggregator_of(settings)
    sent = contributions(aggregator, number, size)
    return aggregator.combine(sent, number, {"masked_input": set(list(sent)[:lost])}).total.update


def own_noise(aggregator: Aggregator, contribution: Contribution) -> npt.NDArray[np.float64]:
    """What a client of a broken update knows that it added, with the part for the scalars."""
    return dequantise(aggregator.mechanism.ring.decode(contribution.vector), aggregator.mechanism.grid)


def accounted(settings: PrivacySettings) -> float:
    """The variance that epsilon is computed for: (z S)², S = C / √(1 − β)."""
    return (settings.noise_multiplier * settings.clip_norm) ** 2 / (1 - settings.scalar_budget)


def repeats(noise: npt.NDArray[np.float64]) -> bool:
    """Whether noise resembles itself, shifted by any number of places: by its autocorrelation at all lags."""
    spectrum = np.fft.rfft(noise - noise.mean(), 2 * len(noise))
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[1 : len(noise)]
    return bool(np.abs(lags).max() > 7.5 * noise.var() * math.sqrt(len(noise)))


# How much.


@pytest.mark.parametrize("settings", MODES, ids=NAMES)
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_the_sums_noise_is_what_is_accounted_for_down_to_the_floor(settings: PrivacySettings, lost: int) -> None:
    """Ten clients, eight of whom must stay: at the floor honest shares give the whole variance and not a hair more."""
    honest = settings.minimum_survivors(10) - settings.tolerated_colluders
    shares = 10 - lost if settings.mode == "distributed" else honest
    noise = opened_noise(settings, lost=lost)
    assert noise.var() == pytest.approx(accounted(settings) * shares / honest, rel=TOLERANCE)
    assert abs(noise.mean()) < 5.5 * noise.std() / math.sqrt(D)
    promised = aggregator_of(settings).mechanism.noise_on_sum(10 - lost)
    assert noise.std() == pytest.approx(promised, rel=TOLERANCE)


@pytest.mark.parametrize("colluders", [0, 1, 3, 5])
def test_colluders_who_tell_their_shares_leave_the_noise_that_is_accounted_for(colluders: int) -> None:
    """Two clients drop out, and as many as are tolerated tell the server what they added."""
    settings = DISTRIBUTED.model_copy(update={"tolerated_colluders": colluders})
    aggregator = aggregator_of(settings)
    sent = contributions(aggregator)
    total = aggregator.combine(sent, 1, {"masked_input": {"c0", "c1"}}).total.update
    told = [own_noise(aggregator, sent[f"c{k}"])[:D] for k in range(2, 2 + colluders)]
    left = total - np.sum(told, axis=0) if told else total
    assert left.var() == pytest.approx(accounted(settings), rel=TOLERANCE)
    one_more = left - own_noise(aggregator, sent["c9"])[:D]
    assert one_more.var() < (1 - TOLERANCE) * accounted(settings), "one more than is tolerated weakens it"


@pytest.mark.parametrize("settings", MODES, ids=NAMES)
def test_scalars_carry_the_same_noise_as_the_update(settings: PrivacySettings) -> None:
    """Three scalars in each of 120 rounds, brought back to the update's scale."""
    few = settings.model_copy(update={"tolerated_colluders": 0})
    beta, seen = few.scalar_budget, []
    scale = 2 * C * math.sqrt(beta / (few.scalars * (1 - beta)))
    for number in range(120):
        aggregator = aggregator_of(few, cohort=2)
        total = aggregator.combine(contributions(aggregator, number, size=2), number).total
        seen += [(scalar - 0.5 * 2) * scale for scalar in (total.weight, total.within_clip, total.metrics["score"])]
    expected = accounted(few)
    assert np.var(seen) == pytest.approx(expected, rel=5.5 * math.sqrt(2 / len(seen)))


@pytest.mark.parametrize("settings", [DISTRIBUTED, COLLUDING, CENTRAL], ids=NAMES[:3])
@pytest.mark.parametrize("came", [0, 4, 6, 9])
def test_sums_under_poisson_sampling_all_carry_the_same_noise(settings: PrivacySettings, came: int) -> None:
    """Also the sum over nobody; never less than is accounted for."""
    few = settings.model_copy(update={"tolerated_colluders": min(settings.tolerated_colluders, 1)})
    poisson = PoissonSampling(population=12, expected=6.0)
    aggregator = aggregator_of(few, came, poisson)
    if came:
        total = aggregator.combine(contributions(aggregator), 1).total
    else:
        alone = aggregator.noise_alone(D, 1)
        assert alone is not None and alone.returned == []
        total = alone.total
    assert total.update.std() == pytest.approx(aggregator.mechanism.noise_on_sum(came), rel=TOLERANCE)
    assert aggregator.mechanism.noise_on_sum(came) == aggregator_of(few, 6, poisson).mechanism.noise_on_sum(6)
    assert total.update.var() > (1 - TOLERANCE) * accounted(few)


@pytest.mark.parametrize("cohort", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("settings", [DISTRIBUTED, CENTRAL, OPEN], ids=["distributed", *NAMES[2:]])
def test_one_survivor_too_few_and_nothing_is_opened(settings: PrivacySettings, cohort: int) -> None:
    few = settings.model_copy(update={"mode": settings.mode})
    floor = few.minimum_survivors(cohort)
    assert floor >= math.ceil(0.8 * cohort) and 2 * floor > cohort
    aggregator = aggregator_of(few, cohort)
    sent = contributions(aggregator, size=8)
    names = list(sent)
    for at in ("advertise", "share_keys", "masked_input"):
        if len(names) > 1:
            with pytest.raises(RoundAbortedError):
                aggregator.combine(sent, 1, {at: set(names[: cohort - floor + 1])})
    with pytest.raises(RoundAbortedError):
        aggregator.combine({name: sent[name] for name in names[: floor - 1]}, 1)
    if floor > 1:
        at_the_floor = aggregator.combine(sent, 1, {"masked_input": set(names[: cohort - floor])})
        assert len(at_the_floor.returned) == floor


def test_a_cohort_of_colluders_alone_opens_no_round() -> None:
    settings = DISTRIBUTED.model_copy(update={"tolerated_colluders": 2})
    aggregator = aggregator_of(settings, 4)
    sent = contributions(aggregator, size=4)
    assert aggregator.combine(sent, 1).total.clients == 4
    with pytest.raises(RoundAbortedError):
        aggregator_of(settings, 4).combine({name: sent[name] for name in ("c0", "c1")}, 1)
    for alone in (settings, settings.model_copy(update={"mode": "central"})):
        with pytest.raises(PrivFedTalkError, match="tolerated_colluders is 2 in a cohort of 2"):
            aggregator_of(alone, 2)
    in_clear = settings.model_copy(update={"mode": "central", "secure_aggregation": False})
    assert aggregator_of(in_clear, 2).survivors == 2, "whom the aggregator is trusted with, colluders see nothing of"


# From where.


DRAWS: dict[str, Callable[[int], npt.NDArray[np.float64]]] = {
    name: partial(opened_noise, settings) for name, settings in zip(NAMES, MODES, strict=True)
}
DRAWS["nobody was drawn, central"] = lambda number: _alone(OPEN, number)
DRAWS["nobody was drawn, distributed"] = lambda number: _alone(DISTRIBUTED, number)


def _alone(settings: PrivacySettings, number: int) -> npt.NDArray[np.float64]:
    found = aggregator_of(settings, 0, PoissonSampling(20, 2.0)).noise_alone(D, number)
    assert found is not None
    return found.total.update


@pytest.mark.parametrize("name", DRAWS)
def test_noise_of_rounds_and_of_repeated_runs_is_unrelated(name: str) -> None:
    """The run's seed and the round's number are public, and the same here: whoever knows them learns nothing. Nor
    does noise repeat within a vector."""
    draw = DRAWS[name]
    drawn = [draw(1), draw(1), draw(2)]
    halves = [half for noise in drawn for half in (noise[: D // 2], noise[D // 2 :])]
    for a, b in combinations(halves, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < math.sqrt(2) * CORRELATION
    for noise in drawn:
        assert not repeats(noise)


def test_noise_is_not_what_the_public_seed_draws() -> None:
    """Central noise minus every guess that seed and round suggest is as large as before."""
    noise = opened_noise(OPEN)
    for guess in (0, 1, (0, 1), (1, 0)):
        known = np.random.default_rng(guess).normal(0, noise.std(), D)
        assert abs(np.corrcoef(noise, known)[0, 1]) < CORRELATION


def test_clients_shares_are_unrelated() -> None:
    aggregator = aggregator_of(DISTRIBUTED)
    shares = [own_noise(aggregator, each) for each in contributions(aggregator).values()]
    again = [own_noise(aggregator, each) for each in contributions(aggregator).values()]
    for a, b in combinations([*shares, *again], 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < CORRELATION
    assert not any(map(repeats, shares))


def test_unseeded_generators_never_meet() -> None:
    """2,000 generators, whose first 63 bits all differ: a source of twenty bits would already show."""
    first = {int(noise_generator(None, 0, "c0", 1).integers(2**63)) for _ in range(2000)}
    assert len(first) == 2000


def test_seeded_noise_is_another_for_each_client_round_and_seed() -> None:
    """Where tables must repeat: one client's noise is still no other's."""
    names = [(seed, run, client, number) for seed in (1, 2) for run in (0, 1) for client in "ab" for number in (1, 2)]
    drawn = {int(noise_generator(*name).integers(2**63)) for name in names}
    assert len(drawn) == len(names)
    seeded = DISTRIBUTED.model_copy(update={"seeded_noise": 4})
    aggregator = aggregator_of(seeded)
    shares = [own_noise(aggregator, each) for each in contributions(aggregator).values()]
    for a, b in combinations(shares, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < CORRELATION
    other = Aggregator(seeded, 10, 1, C, 5.0)
    assert not np.array_equal(own_noise(other, other.contribute("c0", broken(), 1)), shares[0])
    later = own_noise(aggregator, aggregator.contribute("c0", broken(), 2))
    assert abs(np.corrcoef(later, shares[0])[0, 1]) < CORRELATION


# What an update that is broken, or too large, leaves.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_update_leaves_its_noise_share_and_nothing_else(value: float) -> None:
    """Exactly: with the same noise, whatever a broken client holds makes the same message, as long as any other."""
    seeded = DISTRIBUTED.model_copy(update={"seeded_noise": 3})
    aggregator = aggregator_of(seeded)
    sent = [aggregator.contribute("c0", broken(value, clips, s), 1) for clips, s in ((0, 0.0), (9, 0.7), (99, 1.0))]
    for each in sent[1:]:
        np.testing.assert_array_equal(each.vector, sent[0].vector)
    noise = own_noise(aggregator, sent[0])
    honest = seeded.minimum_survivors(10)
    assert noise.var() == pytest.approx(accounted(seeded) / honest, rel=TOLERANCE)
    whole = aggregator.contribute("c0", LocalUpdate(np.zeros(D, np.float32), 9, 0.7, {}, 0.0), 1)
    assert len(noise) == len(whole.vector) == D + seeded.scalars
    np.testing.assert_array_equal(own_noise(aggregator, whole)[:D], noise[:D])
    assert sent[0].weight == 0


@pytest.mark.parametrize("settings", [CENTRAL, OPEN], ids=NAMES[2:])
def test_a_broken_update_is_the_zero_vector_where_the_server_adds_the_noise(settings: PrivacySettings) -> None:
    aggregator = aggregator_of(settings)
    assert not aggregator.contribute("c0", broken(), 1).vector.any()


def test_a_client_with_a_broken_update_does_not_drop_out() -> None:
    for settings in MODES:
        aggregator = aggregator_of(settings)
        assert len(aggregator.combine(contributions(aggregator, size=8), 1).returned) == 10


@pytest.mark.parametrize("settings", [DISTRIBUTED, OPEN], ids=["distributed", "central"])
def test_no_client_moves_the_sum_further_than_the_noise_was_made_for(settings: PrivacySettings) -> None:
    """A huge update, more clips than count, a score beyond one: at most S, in the very message that is sent."""
    quiet = settings.model_copy(update={"noise_multiplier": 0.0})
    aggregator = aggregator_of(quiet)
    bound = C / math.sqrt(1 - quiet.scalar_budget)
    for scale, clips, score in ((1e30, 10**9, 7.0), (1e-3, 1, -3.0), (1.0, 16, 1.0)):
        update = LocalUpdate(np.full(1000, scale, np.float32), clips, score, {}, 0.0)
        vector = aggregator.contribute("c0", update, 1).vector
        values = own_noise(aggregator, Contribution(vector, 0)) if quiet.secure_aggregation else vector
        rounding = math.sqrt(len(values)) * aggregator.mechanism.grid if quiet.secure_aggregation else 1e-6
        assert np.linalg.norm(values) <= bound + rounding
        assert np.linalg.norm(values[:1000]) <= C + rounding


def test_sums_of_the_largest_vectors_and_noise_do_not_wrap() -> None:
    """Many clients at the bound, all in one direction, under noise that 32 bits would not hold on a finer grid."""
    for z in (0.0, 400.0, 1e5):
        settings = DISTRIBUTED.model_copy(update={"noise_multiplier": z, "gamma": 0.0, "n_max": 1})
        aggregator = aggregator_of(settings, 12)
        delta = np.zeros(200, np.float32)
        delta[0] = 10.0
        update = LocalUpdate(delta, 5, 1.0, {}, 0.0)
        total = aggregator.combine({f"c{k}": aggregator.contribute(f"c{k}", update, 1) for k in range(12)}, 1).total
        mechanism = aggregator.mechanism
        assert abs(total.update[0] - 12 * C) < 6 * mechanism.noise_on_sum(12) + 12 * mechanism.grid


def test_the_ring_has_room_for_all_the_shares_that_may_come() -> None:
    """A hundred clients, each with the noise that one of them must bring: ten times the wanted deviation."""
    for deviation, bits in ((2.0**20, 32), (2.0**24, 64)):
        assert choose_ring(1.0, 1.0, deviation, 100, shares=1).bits == bits
    assert choose_ring(1.0, 1.0, 2.0**24, 100, shares=100).bits == 32
    # The whole cohort's vectors are what a round's ring must hold: without noise, two thousand fill 32 bits.
    quiet = DISTRIBUTED.model_copy(update={"noise_multiplier": 0.0})
    assert [aggregator_of(quiet, cohort).mechanism.ring.bits for cohort in (1, 1000, 3000)] == [32, 32, 64]
    # Near the edge the noise decides: the sum of all vectors and what noise adds to it stay within the ring.
    for cohort in range(1980, 2000):
        aggregator = aggregator_of(DISTRIBUTED.model_copy(update={"noise_multiplier": 0.2}), cohort)
        most = cohort * C / math.sqrt(1 - DISTRIBUTED.scalar_budget) + 30 * aggregator.mechanism.noise_on_sum(cohort)
        assert most / aggregator.mechanism.grid < 2.0 ** (aggregator.mechanism.ring.bits - 1)
    # Eight vectors of this norm round up to 2^28 a coordinate: 32 bits would read their sum as negative.
    largest = 2.0**28 - 0.5
    assert 8 * quantise(np.array([largest]), 1.0)[0] == 2**31
    assert choose_ring(largest, 1.0, 0.0, 8).bits == 64


def test_poisson_sampling_fills_up_to_what_the_largest_cohort_brings() -> None:
    """Also where it is everybody who brings the most, compared with the shares that are counted on."""
    counted_on = {1: 1, 2: 2, 3: 3, 4: 2}
    assert steady_share(range(1, 5), counted_on.__getitem__) == 2.0
    assert steady_share(range(1, 4), counted_on.__getitem__) == 1.0
    assert steady_share((), counted_on.__getitem__) == 1.0


# At what price.


def test_each_noise_is_accounted_by_its_own_theorem() -> None:
    schedule = Schedule(100, 100, 5, "full")
    skellam_epsilon, _ = epsilons(DISTRIBUTED, schedule, D, 1e-4)
    gaussian_epsilon, _ = epsilons(CENTRAL, schedule, D, 1e-4)
    assert "Skellam" in skellam_epsilon.accountant and "Gaussian" in gaussian_epsilon.accountant
    assert gaussian_epsilon.value < skellam_epsilon.value < 1.3 * gaussian_epsilon.value
    for mode in ("none", "local_no_proof"):
        none = DISTRIBUTED.model_copy(update={"mode": mode, "secure_aggregation": False})
        assert {each.value for each in epsilons(none, schedule, D, 1e-4)} == {math.inf}
