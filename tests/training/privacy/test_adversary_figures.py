"""What an adversary gains where a figure forgets something: sums that count, amplification that is not due, who may
read a key. Distributed noise, whose accountant takes hundredths of a second."""

from __future__ import annotations

import math
from dataclasses import replace

import dp_accounting
import pytest
from dp_accounting import rdp
from pydantic import ValidationError
from scipy import stats

from common.errors import PrivFedTalkError
from tests.training.privacy_records import CLIENTS, round_record, settings_with
from training.claims.account import together
from training.federation.server.cohorts import (
    expected_cohort,
    may_take_part,
    participation,
    rounds_taken_part,
    takes_everybody,
)
from training.federation.server.spending import epsilon_so_far, participation_figures, planned_schedule, schedule_of
from training.privacy.accounting.epsilon import (
    INTEGER_ORDERS,
    Epsilon,
    Release,
    epsilon_client,
    epsilon_release,
    epsilon_server,
    epsilon_together,
    poisson_rdp,
)
from training.privacy.accounting.guarantee import (
    Together,
    epsilon_towards_clients,
    epsilons,
    share_known_to_clients,
    skellam_mechanism,
)
from training.privacy.accounting.ledger import Entry
from training.privacy.accounting.promise import promise, release_in, schedule_in, settings_in
from training.privacy.accounting.schedule import Sampling, Schedule
from training.privacy.accounting.skellam_rdp import dominating_noise_multiplier
from training.privacy.mechanisms.poisson_sampling import RARE_COHORT
from training.settings import FederationSettings, TrainingSettings
from training.settings.privacy import PrivacySettings

SECRET = PrivacySettings(noise_multiplier=2.0)
MECHANISM = skellam_mechanism(SECRET, 1000, 2.0)
assert MECHANISM is not None
SKELLAM = MECHANISM
SAMPLED = Schedule(1000, 10, 100)
NEAR = replace(SAMPLED, amplifies=False)
DELTA = 1e-5


def sampled(**privacy: object) -> TrainingSettings:
    settings = settings_with(**privacy)
    federation = settings.federation.model_copy(update={"sampling": "poisson", "clients_per_round": 2})
    return settings.model_copy(update={"federation": federation})


# A round that hung on one client tells that it was drawn.


def test_where_a_round_hung_on_one_client_no_reader_gains_from_sampling() -> None:
    server = epsilon_server(SAMPLED, 2.0, DELTA, skellam=SKELLAM).value
    assert epsilon_release(SAMPLED, 2.0, DELTA, SKELLAM).value < 0.7 * server
    assert epsilon_client(SAMPLED, 2.0, DELTA, skellam=SKELLAM).value < 0.9 * server
    assert epsilon_release(NEAR, 2.0, DELTA, SKELLAM).value == server
    assert epsilon_client(NEAR, 2.0, DELTA, skellam=SKELLAM).value == server


def test_where_a_round_of_one_release_hung_on_a_client_composition_does_not_amplify_it() -> None:
    one, near = Release(SAMPLED, 2.0, SKELLAM), Release(NEAR, 2.0, SKELLAM)
    both = epsilon_together([one, one], DELTA).value
    assert both < epsilon_together([one, near], DELTA).value < epsilon_together([near, near], DELTA).value
    # As two federations in which everybody took part in every round, or by what the draws allow.
    everybody = Release(Schedule(1000, 1000, 100, "full"), 2.0, SKELLAM)
    added = 2 * epsilon_server(SAMPLED, 2.0, DELTA / 2, skellam=SKELLAM).value
    expected = min(added, epsilon_together([everybody, everybody], DELTA).value)
    assert epsilon_together([near, near], DELTA).value == pytest.approx(expected, rel=1e-9)


def test_a_capped_release_is_not_composed_as_amplified() -> None:
    """Whether the cap binds hangs on who was drawn before."""
    capped = Release(replace(SAMPLED, max_participation=40), 2.0, SKELLAM)
    everybody = Release(Schedule(1000, 1000, 40, "full"), 2.0, SKELLAM)
    added = 2 * epsilon_release(capped.schedule, 2.0, DELTA / 2, SKELLAM).value
    expected = min(added, epsilon_together([everybody, everybody], DELTA).value)
    assert epsilon_together([capped, capped], DELTA).value == pytest.approx(expected, rel=1e-9)


def test_records_say_whether_amplification_is_due_and_so_does_the_ledger() -> None:
    settings, records = sampled(), [round_record(1), round_record(2)]
    near = [records[0], replace(records[1], near_abort=True)]
    assert schedule_of(settings, 1000, records).amplifies and not schedule_of(settings, 1000, near).amplifies
    told = promise(settings.privacy, planned_schedule(settings, 1000), 1000)
    sound = Entry("f", "privfedtalk", ("a", "b"), told, "", opened=50, drawn=50, repeated=0, near=False)
    alone, hung = together([sound], DELTA), together([replace(sound, near=True)], DELTA)
    assert alone.epsilon is not None and hung.epsilon is not None and hung.epsilon > 1.2 * alone.epsilon
    both = together([sound, replace(sound, federation="g")], DELTA)
    assert both.epsilon is not None and both.epsilon > alone.epsilon


def test_a_cap_that_binds_takes_amplification_away_and_one_that_hardly_does_half_of_delta() -> None:
    free = epsilon_release(SAMPLED, 2.0, DELTA, SKELLAM)
    binding, rare, never = (replace(SAMPLED, max_participation=cap) for cap in (1, 15, 100))
    once = epsilon_release(binding, 2.0, DELTA, SKELLAM)
    assert once == epsilon_server(binding, 2.0, DELTA, skellam=SKELLAM) and once.value > 1.5 * free.value
    assert epsilon_release(rare, 2.0, DELTA, SKELLAM) == epsilon_release(SAMPLED, 2.0, DELTA / 2, SKELLAM)
    assert epsilon_release(never, 2.0, DELTA, SKELLAM) == free
    # Where it binds more often than half of delta allows, the capped run is no longer the uncapped one.
    seven, often = replace(SAMPLED, max_participation=7), 2.1 * float(stats.binom.sf(7, 100, 0.01))
    assert epsilon_release(seven, 2.0, often, SKELLAM) == epsilon_server(seven, 2.0, often, skellam=SKELLAM)


def test_the_server_sees_the_worst_that_the_schedule_allows_or_the_most_that_chance_does() -> None:
    def composed(k: int, delta: float) -> float:
        return epsilon_server(SAMPLED, 2.0, delta, participation=k, skellam=SKELLAM).value

    likely = composed(SAMPLED.participation_but_for(DELTA / 2), DELTA / 2)
    for schedule in (SAMPLED, replace(SAMPLED, sampling="fixed")):
        assert epsilon_server(schedule, 2.0, DELTA, skellam=SKELLAM).value == likely < composed(100, DELTA)
    capped = replace(SAMPLED, max_participation=2)
    assert epsilon_server(capped, 2.0, DELTA, skellam=SKELLAM).value == composed(2, DELTA) < composed(2, DELTA / 2)
    everybody = Schedule(10, 10, 7, "full")
    assert epsilon_server(everybody, 2.0, DELTA, skellam=SKELLAM).value == composed(7, DELTA)
    assert epsilon_server(SAMPLED, 0.0, DELTA).value == epsilon_client(SAMPLED, 0.0, DELTA).value == math.inf
    assert epsilon_server(replace(SAMPLED, rounds=0), 2.0, DELTA).value == 0.0


def test_another_client_gains_the_rounds_that_it_shares_and_cohorts_of_one_size_hide_nobody_from_it() -> None:
    """By dp_accounting itself: all rounds sampled, and those that both were drawn into once more, unsampled."""
    z = dominating_noise_multiplier(SKELLAM)
    shared = int(stats.binom.isf(DELTA / 2, 100, 0.01**2))
    accountant = rdp.RdpAccountant(INTEGER_ORDERS, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    sampled_round = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(z))
    accountant.compose(dp_accounting.SelfComposedDpEvent(sampled_round, 100))
    accountant.compose(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(z), shared))
    expected = accountant.get_epsilon(DELTA / 2 - 100 * RARE_COHORT)
    assert epsilon_client(SAMPLED, 2.0, DELTA, skellam=SKELLAM).value == pytest.approx(expected, rel=1e-12)
    fixed = replace(SAMPLED, sampling="fixed")
    assert epsilon_client(fixed, 2.0, DELTA, skellam=SKELLAM) == epsilon_server(fixed, 2.0, DELTA, skellam=SKELLAM)
    assert epsilon_release(fixed, 2.0, DELTA, SKELLAM) == epsilon_server(fixed, 2.0, DELTA, skellam=SKELLAM)


def test_two_sampled_releases_are_one_of_twice_the_rounds() -> None:
    z, one = dominating_noise_multiplier(SKELLAM), Release(SAMPLED, 2.0, SKELLAM)
    both = epsilon_together([one, one], DELTA)
    assert both.value == pytest.approx(poisson_rdp(0.01, z, 200, DELTA - 200 * RARE_COHORT), rel=1e-12)
    assert epsilon_together([one, replace(one, schedule=replace(SAMPLED, rounds=0))], DELTA).value == (
        epsilon_release(SAMPLED, 2.0, DELTA, SKELLAM).value
    )
    assert epsilon_together([one], DELTA) == epsilon_release(SAMPLED, 2.0, DELTA, SKELLAM)
    assert epsilon_together([], DELTA) == Epsilon(0.0, "nothing was released")
    fixed = Release(Schedule(1000, 10, 100, "fixed"), 2.0, SKELLAM)
    apart = sum(epsilon_release(each.schedule, 2.0, DELTA / 2, SKELLAM).value for each in (one, fixed))
    assert epsilon_together([one, fixed], DELTA).value == pytest.approx(apart)
    assert epsilon_together([one, Release(SAMPLED, 0.0)], DELTA).value == math.inf


# What counts.


def test_each_sum_that_may_have_been_opened_counts() -> None:
    lost = [round_record(1), round_record(2, reopened=[CLIENTS, CLIENTS[:3]])]
    assert schedule_of(settings_with(), 10, lost).rounds == schedule_of(sampled(), 1000, lost).rounds == 4
    aborted = [*lost, round_record(3, outcome="aborted", returned=[])]
    assert schedule_of(settings_with(), 10, aborted).rounds == 4
    assert schedule_of(sampled(), 1000, aborted).rounds == 5, "a draw is a draw, whatever becomes of it"


def test_rounds_that_clients_hold_against_the_next_are_those_whose_sums_were_opened() -> None:
    records = [
        round_record(1, returned=["a", "b"]),
        round_record(2, returned=["a"], outcome="rolled back"),
        round_record(3, returned=["a", "b"], outcome="aborted"),
        round_record(4, returned=["b"], reopened=[["a"], ["c", "b"]]),
    ]
    assert rounds_taken_part(records) == {"a": [1, 2], "b": [1, 4]}
    assert participation(records) == {"a": 3, "b": 3, "c": 1}
    assert may_take_part("abc", 3, records) == {"c"}
    assert may_take_part("abcd", 2, records, [["c", "d"]]) == {"d"}


def test_more_a_round_than_there_are_is_everybody() -> None:
    for asked in (None, 3, 9):
        federation = FederationSettings(sampling="poisson", clients_per_round=asked)
        assert takes_everybody(3, federation) and expected_cohort(3, federation) == 3
        settings = settings_with().model_copy(update={"federation": federation})
        assert planned_schedule(settings, 3) == Schedule(3, 3, federation.rounds, "full")


@pytest.mark.parametrize("cap", [None, 3])
def test_a_promise_gives_back_what_was_promised(cap: int | None) -> None:
    settings = sampled(max_participation=cap, noise_multiplier=1.5)
    told = promise(settings.privacy, planned_schedule(settings, 1000), 77)
    assert settings_in(told) == settings.privacy and told["delta"] == settings.privacy.target_delta(1000)
    assert schedule_in(told, 5, 2, amplifies=False) == Schedule(1000, 2, 7, "poisson", cap, amplifies=False)
    released = release_in(told, 7, 0, amplifies=True)
    assert released == Release(Schedule(1000, 2, 7, "poisson", cap), 1.5, skellam_mechanism(settings.privacy, 77, 1.5))


def test_cohorts_of_rare_sizes_are_paid_for_in_delta() -> None:
    """Their noise tells their size; so many rounds make one of them likelier than delta, and nothing is amplified."""
    z, rounds = dominating_noise_multiplier(SKELLAM), 20_000
    long = replace(SAMPLED, rounds=rounds)
    delta = 1.25 * rounds * RARE_COHORT
    paid = epsilon_release(long, 2.0, delta, SKELLAM).value
    assert paid == poisson_rdp(0.01, z, rounds, delta - rounds * RARE_COHORT) > poisson_rdp(0.01, z, rounds, delta)
    none_left = 0.75 * rounds * RARE_COHORT
    assert epsilon_release(long, 2.0, none_left, SKELLAM) == epsilon_server(long, 2.0, none_left, skellam=SKELLAM)
    # Another client's view takes half of delta for the rounds it was in, so that twice as much is too little.
    assert epsilon_client(long, 2.0, delta, skellam=SKELLAM) == epsilon_server(long, 2.0, delta, skellam=SKELLAM)
    one = Release(long, 2.0, SKELLAM)
    apart = epsilon_release(long, 2.0, delta / 2, SKELLAM).value
    assert epsilon_together([one, one], delta).value == pytest.approx(2 * apart)


@pytest.mark.parametrize("sampling", ["full", "fixed"])
def test_another_client_subtracts_its_own_noise(sampling: Sampling) -> None:
    schedule = Schedule(10, 10 if sampling == "full" else 5, 3, sampling)
    for share in (0.0, 0.25, 0.5):
        left = 2.0 * math.sqrt(1 - share)
        assert epsilon_client(schedule, 2.0, DELTA, share) == epsilon_server(schedule, left, DELTA)
        assert SKELLAM is not None
        known = epsilon_client(schedule, 2.0, DELTA, share, SKELLAM).value
        assert known == epsilon_server(schedule, left, DELTA, skellam=SKELLAM.scaled(1 - share)).value
    assert known > 1.3 * epsilon_server(schedule, 2.0, DELTA, skellam=SKELLAM).value


def test_the_share_that_another_client_knows_is_the_largest_that_a_cohort_gives_it() -> None:
    trusting = PrivacySettings(tolerated_colluders=0)
    everybody, eight, poisson = Schedule(8, 8, 1, "full"), Schedule(80, 8, 1, "fixed"), Schedule(80, 8, 1)
    assert share_known_to_clients(trusting, everybody) == share_known_to_clients(trusting, eight) == 1 / 7
    assert share_known_to_clients(trusting, poisson) == 1 / 2, "it may draw two alone"
    assert share_known_to_clients(trusting, Schedule(8, 8, 1)) == 1 / 7, "a rate of one draws everybody"
    assert share_known_to_clients(trusting, Schedule(80, 1, 1, "fixed")) == 0.0, "a cohort of one has no other client"
    for safe in (PrivacySettings(tolerated_colluders=1), trusting.model_copy(update={"mode": "central"})):
        assert share_known_to_clients(safe, poisson) == 0.0
    louder = SECRET.model_copy(update={"noise_multiplier": 4.0})
    assert epsilons(SECRET, eight, 77, DELTA, noise_multiplier=4.0) == epsilons(louder, eight, 77, DELTA)
    assert epsilon_towards_clients(SECRET, eight, 77, DELTA, 4.0) == epsilon_towards_clients(louder, eight, 77, DELTA)


def test_no_reader_gets_an_epsilon_where_there_is_no_proof() -> None:
    for mode in ("none", "local_no_proof"):
        settings = PrivacySettings(mode=mode, secure_aggregation=False, noise_multiplier=3.0)
        assert epsilon_towards_clients(settings, SAMPLED, 100, DELTA).value == math.inf


def test_federations_cost_by_what_was_opened_or_drawn_and_those_without_a_promise_are_named() -> None:
    assert together([], DELTA) == Together(0.0, "", 0)
    for settings, rounds in ((settings_with(), 3), (sampled(), 5)):
        told = promise(settings.privacy, planned_schedule(settings, 10), 77)
        entry = Entry("f", "privfedtalk", ("a",), told, "", opened=3, drawn=5, repeated=0, near=False)
        bare = Entry("g", "fedavg", ("a",), None, "no noise", opened=0, drawn=0, repeated=0, near=False)
        expected = epsilon_together([release_in(told, rounds, 0, amplifies=True)], DELTA)
        found = together([entry, bare], DELTA)
        assert found == Together(expected.value, expected.accountant, 1, ("fedavg",))


def test_the_coordinators_own_figures_are_of_who_took_part() -> None:
    settings = settings_with()
    records = [round_record(1), round_record(2, returned=CLIENTS[:9], survivors=9)]
    _, server = epsilon_so_far(settings, 10, records, 77)
    assert participation_figures(settings, 10, records, 77, "f") == {
        "federation": "f",
        "most": 2,
        "clients_by_rounds": {1: 1, 2: 9},
        "epsilon_server": server,
    }
    assert server == epsilons(settings.privacy, Schedule(10, 10, 2, "full"), 77, DELTA)[1].value


def test_a_clients_rounds_are_no_more_than_its_cap_and_what_chance_allows() -> None:
    assert Schedule(10, 10, 100, "full", 3).participation == 3 == Schedule(10, 5, 3, max_participation=9).participation
    assert Schedule(10, 10, 100, "full").participation_but_for(1e-6) == 100
    for chance in (1e-3, 1e-6):
        k = SAMPLED.participation_but_for(chance)
        drawn = stats.binom(100, 0.01)
        assert drawn.sf(k) <= chance < drawn.sf(k - 1) and k < 15
        assert replace(SAMPLED, max_participation=2).participation_but_for(chance) == 2
    certain = Schedule(5, 5, 3)
    assert not certain.draws and certain.participation_but_for(0.5) == 3
    assert epsilon_release(certain, 2.0, DELTA, SKELLAM) == epsilon_server(certain, 2.0, DELTA, skellam=SKELLAM)
    one_of_five = Schedule(5, 1, 0)
    assert one_of_five.draws and epsilon_release(one_of_five, 2.0, DELTA, SKELLAM).value == 0.0
    for impossible in ((5, 0, 1), (5, 6, 1), (5, 2, -1)):
        with pytest.raises(PrivFedTalkError, match="a schedule of"):
            Schedule(*impossible)
    with pytest.raises(PrivFedTalkError, match="sampling 'full' with 2 of 5"):
        Schedule(5, 2, 1, "full")


def test_settings_that_would_bare_a_vector_are_refused() -> None:
    with pytest.raises(ValidationError, match="each client's vector under a mere share"):
        PrivacySettings(mode="distributed", secure_aggregation=False)
    with pytest.raises(ValidationError, match="need each client's clip count"):
        PrivacySettings(mode="local_no_proof", secure_aggregation=True)
    for mode in ("central", "none"):
        assert not PrivacySettings(mode=mode, secure_aggregation=False).secure_aggregation
    careful = PrivacySettings(threshold=0.9, survivor_floor=0.5, tolerated_colluders=0)
    assert [careful.share_threshold(n) for n in (1, 5, 10, 20)] == [1, 5, 9, 18]
    assert [careful.minimum_survivors(n) for n in (1, 5, 10, 20)] == [1, 5, 9, 18], "never below the threshold"
