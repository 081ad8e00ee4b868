"""What was opened stays counted: sums that an interruption lost, trainings that were discarded, other releases."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import CorruptFileError
from common.folders import RunFolder
from tests.training.privacy_records import CLIENTS, note_in_ledger, round_record, settings_with, using, write_method
from tests.training.small_federation import CLIENTS as THREE
from tests.training.small_federation import InProcess, TrainerFor
from tests.training.small_federation import settings_with as small_settings
from training.claims.account import account, entries_of
from training.claims.verification import contradictions_of
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.server.aggregation import Aggregate, Aggregator, Contribution
from training.federation.server.cohorts import participation
from training.federation.server.spending import schedule_of
from training.privacy.accounting.epsilon import Release, epsilon_release, epsilon_together
from training.privacy.accounting.guarantee import skellam_mechanism
from training.privacy.accounting.ledger import Ledger
from training.privacy.accounting.schedule import Schedule
from training.settings import TrainingSettings

ROUNDS = [round_record(1), round_record(2)]


class KilledError(Exception):
    """The process ends here."""


def run(
    trainer_for: TrainerFor,
    settings: TrainingSettings,
    folder: Path,
    ledger: Ledger,
    public_loss: Callable[[np.ndarray], float] = lambda theta: 0.0,
) -> FederationResult:
    trainer = trainer_for(settings, "privfedtalk")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256, trainer.adapter.factors)
    engine = InProcess(trainer)
    return run_federation(engine, "privfedtalk", start, THREE, public_loss, settings, folder, seed=5, ledger=ledger)


def test_a_sum_that_was_opened_before_the_process_ended_is_counted(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """Killed three times after round 2 was opened, the server has seen rounds 1, 2, 2, 2, 2 and 3."""
    settings = small_settings("privfedtalk", noise_multiplier=1.0, seeded_noise=None, tolerated_colluders=0)
    ledger = Ledger(tmp_path / "coordinator" / "ledger.jsonl", RunFolder(tmp_path).client_ledger)
    for survived in (1, 0, 0):
        left = iter([0.0] * survived)

        def loss(theta: np.ndarray, left: Iterator[float] = left) -> float:
            """Public validation comes after the sum was opened and before anything of the round is saved."""
            for value in left:
                return value
            raise KilledError

        with pytest.raises(KilledError):
            run(trainer_for, settings, tmp_path / "f", ledger, loss)
    records = run(trainer_for, settings, tmp_path / "f", ledger).records
    assert [len(record.reopened) for record in records] == [0, 3, 0]
    assert set(participation(records).values()) == {6}
    assert schedule_of(settings, 3, records).rounds == 6
    report = account("privfedtalk", settings, 3, records, 100, entries_of(ledger, THREE))
    uninterrupted = [replace(record, reopened=[]) for record in records]
    assert report.rounds == 6 and report.together.releases == 1
    fewer = account("privfedtalk", settings, 3, uninterrupted, 100).epsilon_server
    assert report.epsilon_server is not None and fewer is not None and report.epsilon_server > fewer
    assert any("3 sums may have been opened" in sentence for sentence in report.assumptions)
    (entry,) = ledger.entries()
    assert (entry.opened, entry.drawn, entry.repeated) == (6, 6, 3)
    own = [json.loads(line) for line in (tmp_path / "clients" / "c0" / "ledger.jsonl").read_text().splitlines()]
    assert [(line["round"], line["attempt"]) for line in own[1:]] == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1)]


def test_the_note_is_on_the_disk_before_anything_is_opened(
    trainer_for: TrainerFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    opened = Aggregator.combine

    def combine(self: Aggregator, contributions: Mapping[str, Contribution], number: int, *rest: Any) -> Aggregate:
        noted = Ledger(tmp_path / "ledger.jsonl").lines()[-1]
        assert (noted["event"], noted["round"], noted["cohort"]) == ("opens", number, sorted(contributions))
        return opened(self, contributions, number, *rest)

    monkeypatch.setattr(Aggregator, "combine", combine)
    settings = small_settings("privfedtalk", noise_multiplier=1.0, seeded_noise=None)
    assert len(run(trainer_for, settings, tmp_path / "f", ledger).records) == 3


@pytest.mark.slow(minutes=0.1)
def test_a_training_under_other_settings_does_not_start_from_nothing(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """The checkpoint is discarded, what was opened is not."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    first = small_settings("privfedtalk", noise_multiplier=20.0, seeded_noise=None)
    rate = first.federation.model_copy(update={"learning_rate": 1e-3})
    second = first.model_copy(update={"federation": rate})
    alone: float | None = None
    together: float | None = None
    for number, settings in enumerate((first, second, first, second), start=1):
        result = run(trainer_for, settings, tmp_path / "f", ledger)
        ledger.ended(result.name)
        report = account("privfedtalk", settings, 3, result.records, 100, entries_of(ledger, THREE, result.name))
        alone = alone or report.epsilon_release
        together = report.together.epsilon
        assert alone is not None and together is not None
        assert report.epsilon_release == alone and report.together.releases == number
        assert together == alone if number == 1 else together > alone
    assert alone is not None and together is not None
    assert alone < together <= 4 * alone
    assert "of 4 releases on the same clients" in report.mark and "4 releases so far" in report.note


def test_a_report_that_forgets_earlier_releases_is_caught(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    alone = write_method(run, "dp_only", settings_with(), ROUNDS)
    report = write_method(run, "privfedtalk", settings_with(), ROUNDS)
    assert report["together"]["releases"] == 2
    # Each report tells of all that was released when it was made.
    assert contradictions_of(run, "dp_only") == contradictions_of(run, "privfedtalk") == []
    path = run.federation("privfedtalk") / "privacy.json"
    path.write_text(json.dumps({**report, "together": alone["together"]}))
    assert any("epsilon_together" in line for line in contradictions_of(run, "privfedtalk"))


@pytest.mark.slow(minutes=0.1)
def test_too_many_releases_are_not_private_together(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number in range(40):
        entries = note_in_ledger(ledger, f"f{number}", "privfedtalk", settings_with(), ROUNDS)
    report = account("privfedtalk", settings_with(), 10, ROUNDS, 1000, entries)
    assert report.epsilon_release is not None and report.together.epsilon is not None
    assert report.epsilon_release < 10 < report.together.epsilon
    assert not report.private and report.guarantee_holds and "too weak" in report.verdict


def test_only_federations_with_the_same_clients_are_composed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    note_in_ledger(ledger, "a", "privfedtalk", settings_with(), ROUNDS, members=["x", "y"])
    entries = note_in_ledger(ledger, "b", "privfedtalk", settings_with(), ROUNDS)
    assert [entry.federation for entry in entries] == ["b"]
    entries = note_in_ledger(ledger, "c", "privfedtalk", settings_with(), ROUNDS, members=["x", "c0"])
    assert [entry.federation for entry in entries] == ["a", "b", "c"]
    # No client was in all three.
    assert account("privfedtalk", settings_with(), 2, ROUNDS, 1000, entries).together.releases == 2


def test_what_promises_nothing_is_named_and_not_composed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    note_in_ledger(ledger, "a", "fedavg", settings_with(mode="none"), ROUNDS)
    note_in_ledger(ledger, "b", "dp_only", settings_with(seeded_noise=3), ROUNDS)
    entries = note_in_ledger(ledger, "c", "privfedtalk", settings_with(), ROUNDS)
    report = account("privfedtalk", settings_with(), 10, ROUNDS, 1000, entries)
    assert report.private and report.together.releases == 1
    assert report.together.without_promise == ("dp_only", "fedavg")
    assert any("dp_only, fedavg" in point for point in report.not_protected)


def test_a_client_brings_its_own_ledger_into_another_run(tmp_path: Path) -> None:
    """Its folder is copied, clips and all: what it spent elsewhere is counted with every round that was planned."""
    there, here = RunFolder(tmp_path / "there"), RunFolder(tmp_path / "here")
    note_in_ledger(Ledger(there.ledger, there.client_ledger), "a", "privfedtalk", settings_with(), ROUNDS)
    here.client("c3").mkdir(parents=True)
    here.client_ledger("c3").write_bytes(there.client_ledger("c3").read_bytes())
    entries = note_in_ledger(Ledger(here.ledger, here.client_ledger), "b", "privfedtalk", settings_with(), ROUNDS)
    report = account("privfedtalk", settings_with(), 10, ROUNDS, 1000, entries)
    assert report.epsilon_release is not None and report.together.epsilon is not None
    assert report.together.releases == 2 and report.together.epsilon > report.epsilon_release


@pytest.mark.parametrize("spoil", [lambda lines: lines[1:], lambda lines: lines[:-2] + lines[-1:]])
def test_a_ledger_of_which_something_is_missing_is_no_ledger(tmp_path: Path, spoil: Callable) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    note_in_ledger(ledger, "a", "privfedtalk", settings_with(), ROUNDS)
    ledger.path.write_text("\n".join(spoil(ledger.path.read_text().splitlines())) + "\n")
    with pytest.raises(CorruptFileError, match="not signed by this run"):
        ledger.entries()


def test_names_may_be_replaced_and_figures_may_not(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    note_in_ledger(ledger, "a", "privfedtalk", settings_with(), ROUNDS)
    text = ledger.path.read_text()
    ledger.path.write_text(text.replace('"c3"', '"forgotten-1"'))
    assert "forgotten-1" in ledger.entries()[0].clients
    ledger.path.write_text(text.replace('"noise_multiplier": 2.0', '"noise_multiplier": 9.0'))
    with pytest.raises(CorruptFileError):
        ledger.entries()


def test_half_a_line_is_no_event_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    note_in_ledger(ledger, "a", "privfedtalk", settings_with(), ROUNDS)
    whole = ledger.lines()
    with ledger.path.open("a") as file:
        file.write('{"event": "ope')
    assert ledger.lines() == whole
    ledger.ended("a")
    assert len(ledger.lines()) == len(whole) + 1


def _write(path: str) -> None:
    ledger = Ledger(Path(path))
    for number in range(20):
        ledger.closed("x", number, "applied", False)


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(str(path),)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(Ledger(path).lines()) == 80
    assert (path.with_name("signing.key").stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize("mode", ["central", "distributed"])
@pytest.mark.parametrize("schedule", [Schedule(1000, 10, 100), Schedule(50, 50, 5, "full")])
def test_releases_together_cost_more_than_one_and_no_more_than_their_sum(mode: str, schedule: Schedule) -> None:
    settings = settings_with(mode=mode, noise_multiplier=1.0).privacy
    one = Release(schedule, 1.0, skellam_mechanism(settings, 1000, 1.0))
    alone = epsilon_release(schedule, 1.0, 1e-5, one.skellam).value
    assert epsilon_together([one], 1e-5).value == alone
    assert epsilon_together([one, Release(replace(schedule, rounds=0), 1.0)], 1e-5).value == alone
    each = epsilon_release(schedule, 1.0, 2.5e-6, one.skellam).value
    both = epsilon_together([one] * 4, 1e-5).value
    assert alone < both <= 4 * each
    # Four trainings of T rounds are one of 4 T.
    longer = epsilon_release(replace(schedule, rounds=4 * schedule.rounds), 1.0, 1e-5, one.skellam).value
    assert longer <= both * (1 + 1e-9) and both < 1.35 * longer  # RDP is looser than PLD


def test_fixed_cohorts_are_composed_by_their_sum() -> None:
    fixed = Release(Schedule(1000, 10, 20, "fixed"), 2.0)
    mixed = [fixed, Release(Schedule(1000, 10, 20), 2.0)]
    added = sum(epsilon_release(one.schedule, 2.0, 5e-6).value for one in mixed)
    assert epsilon_together(mixed, 1e-5).value == pytest.approx(added)


def test_a_round_that_hung_on_one_client_amplifies_nothing() -> None:
    settings = settings_with(mode="central")
    federation = settings.federation.model_copy(update={"sampling": "poisson", "clients_per_round": 10})
    settings = settings.model_copy(update={"federation": federation})
    sound = account("privfedtalk", settings, 1000, ROUNDS, 100)
    near = account("privfedtalk", settings, 1000, [ROUNDS[0], replace(ROUNDS[1], near_abort=True)], 100)
    assert near.epsilon_server is not None and sound.epsilon_release is not None
    assert near.epsilon_release == near.epsilon_server > 3 * sound.epsilon_release
    assert any("no amplification" in sentence for sentence in near.assumptions)


def test_records_say_what_was_used() -> None:
    facts: Mapping[str, object] = using(settings_with(), ROUNDS)[0].mechanism
    assert facts["clients"] == len(CLIENTS) and facts["delta"] == 1e-5
