"""What an adversary gains where a figure forgets something: sums that count, amplification that is not due, who may
read a key. Distributed noise, whose accountant takes hundredths of a second."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.privacy_records import CLIENTS, round_record, settings_with
from training.checkpoint import begin_checkpoint, resume_federation
from training.coins import Coins, client_draws
from training.ledger import Entry
from training.privacy.accounting import (
    Release,
    Schedule,
    epsilon_client,
    epsilon_release,
    epsilon_server,
    epsilon_together,
    poisson_rdp,
)
from training.privacy.guarantee import epsilon_towards_clients, skellam_mechanism
from training.privacy.promise import promise, release_in, schedule_in, settings_in
from training.privacy.settings import PrivacySettings
from training.privacy.skellam import RARE_COHORT
from training.privacy.skellam_rdp import dominating_noise_multiplier
from training.settings import TrainingSettings
from training.signed_log import RunKey
from training.spent import planned_schedule, schedule_of, together

SECRET = PrivacySettings(noise_multiplier=2.0)
SKELLAM = skellam_mechanism(SECRET, 1000, 2.0)
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
    sound = Entry("f", "privfedtalk", ("a", "b"), told, "", opened=50, drawn=50, near=False)
    alone, hung = together([sound], DELTA), together([replace(sound, near=True)], DELTA)
    assert alone.epsilon is not None and hung.epsilon is not None and hung.epsilon > 1.2 * alone.epsilon
    assert together([sound, replace(sound, federation="g")], DELTA).epsilon > alone.epsilon  # type: ignore[operator]


# What counts.


def test_each_sum_that_may_have_been_opened_counts() -> None:
    lost = [round_record(1), round_record(2, reopened=[CLIENTS, CLIENTS[:3]])]
    assert schedule_of(settings_with(), 10, lost).rounds == schedule_of(sampled(), 1000, lost).rounds == 4
    aborted = [*lost, round_record(3, outcome="aborted", returned=[])]
    assert schedule_of(settings_with(), 10, aborted).rounds == 4
    assert schedule_of(sampled(), 1000, aborted).rounds == 5, "a draw is a draw, whatever becomes of it"


@pytest.mark.parametrize("cap", [None, 3])
def test_a_promise_gives_back_what_was_promised(cap: int | None) -> None:
    settings = sampled(max_participation=cap, noise_multiplier=1.5)
    told = promise(settings.privacy, planned_schedule(settings, 1000), 77)
    assert settings_in(told) == settings.privacy and told["delta"] == settings.privacy.target_delta(1000)
    assert schedule_in(told, 7, amplifies=False) == Schedule(1000, 2, 7, "poisson", cap, amplifies=False)
    released = release_in(told, 7, amplifies=True)
    assert released == Release(Schedule(1000, 2, 7, "poisson", cap), 1.5, skellam_mechanism(settings.privacy, 77, 1.5))


def test_cohorts_of_rare_sizes_are_paid_for_in_delta() -> None:
    """Their noise tells their size; so many rounds make one of them likelier than delta, and nothing is amplified."""
    z, rounds = dominating_noise_multiplier(SKELLAM), 20_000  # type: ignore[arg-type]
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
def test_another_client_subtracts_its_own_noise(sampling: str) -> None:
    schedule = Schedule(10, 10 if sampling == "full" else 5, 3, sampling)  # type: ignore[arg-type]
    for share in (0.0, 0.25, 0.5):
        left = 2.0 * math.sqrt(1 - share)
        assert epsilon_client(schedule, 2.0, DELTA, share) == epsilon_server(schedule, left, DELTA)
        assert SKELLAM is not None
        known = epsilon_client(schedule, 2.0, DELTA, share, SKELLAM).value
        assert known == epsilon_server(schedule, left, DELTA, skellam=SKELLAM.scaled(1 - share)).value
    assert known > 1.3 * epsilon_server(schedule, 2.0, DELTA, skellam=SKELLAM).value


def test_no_reader_gets_an_epsilon_where_there_is_no_proof() -> None:
    for mode in ("none", "local_no_proof"):
        settings = PrivacySettings(mode=mode, secure_aggregation=False, noise_multiplier=3.0)
        assert epsilon_towards_clients(settings, SAMPLED, 100, DELTA).value == math.inf


# Who may read what draws are made of.


def test_clients_draws_never_meet() -> None:
    """Two thousand of them; few bits of entropy behind them would show."""
    drawn = {int(client_draws(SECRET, 0, "local", "c0", "1").integers(2**63)) for _ in range(2000)}
    assert len(drawn) == 2000


def test_a_federation_that_goes_on_keeps_its_name_and_its_coins(tmp_path: Path) -> None:
    begun = begin_checkpoint(tmp_path, "fingerprint", Coins.toss(SECRET, 0))
    assert resume_federation(tmp_path, "fingerprint", 0) == begun and begun.coins.key is not None
    assert resume_federation(tmp_path, "another", 0) is None
    assert begin_checkpoint(tmp_path, "fingerprint", Coins.toss(SECRET, 0)).name != begun.name
    assert (tmp_path / "checkpoint" / "federation.json").stat().st_mode & 0o077 == 0
    open_one = begin_checkpoint(tmp_path, "fingerprint", Coins.toss(PrivacySettings(seeded_noise=1), 3))
    assert resume_federation(tmp_path, "fingerprint", 3) == open_one and open_one.coins == Coins(3)


def test_the_signing_key_is_its_owners_alone_and_no_other_runs(tmp_path: Path) -> None:
    key = RunKey.open(tmp_path / "signing.key")
    assert (tmp_path / "signing.key").stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "signing.key"]
    assert RunKey.open(tmp_path / "signing.key").sign({"a": 1}, "") == key.sign({"a": 1}, "")
    assert RunKey.open(tmp_path / "other.key").sign({"a": 1}, "") != key.sign({"a": 1}, "")
