"""What a federation's coordinator writes down, and when: a kill, other settings or a thinned-out round hide no sum.

The clients are a line each: they send what they are given, so that a round takes hundredths of a second. All that
protects, opens, records and counts is the real thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import CorruptFileError
from tests.training.privacy_records import round_record, settings_with
from training.adapters.factors import Factors
from training.claims.account import account, entries_of
from training.claims.verification import contradictions
from training.federation import faults as simulation
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.server.checkpoint import RoundRecord, discard_checkpoint, load_checkpoint, resume_federation
from training.federation.server.opening import open_round, poisson_sampling_of
from training.federation.server.spending import epsilon_so_far, planned_schedule, schedule_of
from training.privacy.accounting.ledger import Ledger
from training.privacy.accounting.promise import promise
from training.privacy.mechanisms.poisson_sampling import PoissonSampling
from training.privacy.mechanisms.release import adapted_clip_norm
from training.settings import TrainingSettings

SIX = [f"c{number}" for number in range(6)]
D = 40


class KilledError(Exception):
    """The process ends here."""


class Senders:
    """The engine: each client sends 0.01 everywhere."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        return dict.fromkeys(clients, LocalUpdate(np.full(D, 0.01, np.float32), 4, 0.5, {}, 0.0))


def only(came: Callable[[int], int], patch: pytest.MonkeyPatch) -> None:
    """Of a cohort of n clients only the first came(n) send an update."""

    def fates(clients: Sequence[str], settings: object, seed: int, number: int) -> dict[str, simulation.Fate]:
        there = came(len(clients))
        return {c: simulation.Fate("" if i < there else "after training", None, 1.0) for i, c in enumerate(clients)}

    patch.setattr(simulation, "fates", fates)


def everybody(**federation: object) -> TrainingSettings:
    settings = settings_with(tolerated_colluders=0)
    changed = settings.federation.model_copy(update={"rounds": 3, **federation})
    return settings.model_copy(update={"federation": changed})


def sampled(**federation: object) -> TrainingSettings:
    return everybody(sampling="poisson", clients_per_round=5, **federation)


def run(
    settings: TrainingSettings,
    folder: Path,
    loss: Callable[[np.ndarray], float] = lambda theta: 0.0,
    method: str = "privfedtalk",
    clients: Sequence[str] = SIX,
    seed: int = 5,
    people: Sequence[str] | None = None,
    **start: Any,
) -> FederationResult:
    begun = replace(Start(np.zeros(D, np.float32), "base"), **start)
    ledger = Ledger(folder / "ledger.jsonl")
    return run_federation(
        Senders(), method, begun, clients, loss, settings, folder / "f", seed, ledger=ledger, people=people
    )


def killed_after(rounds: int, settings: TrainingSettings, folder: Path) -> None:
    """Run, and end the process when the sum after so many more rounds is open and nothing of it is saved."""
    left: Iterator[float] = iter([0.0] * rounds)

    def loss(theta: np.ndarray) -> float:
        for value in left:
            return value
        raise KilledError

    with pytest.raises(KilledError):
        run(settings, folder, loss)


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "f" / "rounds.jsonl").read_text().splitlines()]


def test_each_kill_leaves_a_sum_that_counts(tmp_path: Path) -> None:
    killed_after(1, everybody(), tmp_path)
    for attempt in (1, 2):
        last = Ledger(tmp_path / "ledger.jsonl").lines()[-1]
        assert (last["event"], last["round"], last["attempt"], last["cohort"]) == ("opens", 2, attempt, SIX)
        killed_after(0, everybody(), tmp_path)
    records = run(everybody(), tmp_path).records
    assert [len(record.reopened) for record in records] == [0, 3, 0]
    (entry,) = Ledger(tmp_path / "ledger.jsonl").entries()
    assert entry.opened == entry.drawn == schedule_of(everybody(), 6, records).rounds == 6


def test_an_attempt_draws_other_clients_than_the_one_that_was_lost(tmp_path: Path) -> None:
    settings, many = everybody(sampling="fixed", clients_per_round=10), [f"c{number:02d}" for number in range(40)]
    for _ in range(2):
        with pytest.raises(KilledError):
            run(settings, tmp_path, loss=_killed, clients=many)
    run(settings, tmp_path, clients=many)
    cohorts = [line["cohort"] for line in Ledger(tmp_path / "ledger.jsonl").lines() if line["event"] == "opens"]
    assert len(cohorts) == 5 and len({tuple(cohort) for cohort in cohorts}) == 5
    assert written(tmp_path)[0]["reopened"] == cohorts[:2]


def _killed(theta: np.ndarray) -> float:
    raise KilledError


def test_rounds_are_signed_in_their_order(tmp_path: Path) -> None:
    killed_after(2, everybody(), tmp_path)
    run(everybody(), tmp_path)
    lines, key = written(tmp_path), Ledger(tmp_path / "ledger.jsonl").key
    assert len(lines) == 3 and key.objection(lines) == ""
    for forged in ([lines[1]], [*lines[:2], lines[1]], [lines[1], lines[0], lines[2]], [lines[0], lines[2]]):
        assert key.objection(forged)
    assert key.objection([*lines[:2], {**lines[2], "near_abort": True}])


@pytest.mark.parametrize("settings", [everybody(), sampled(rounds=2)], ids=["full", "poisson"])
def test_a_record_says_what_the_round_used_and_what_it_has_cost_so_far(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    records = run(settings, tmp_path).records
    used = promise(settings.privacy, planned_schedule(settings, 6), D)
    deviation = settings.privacy.noise_multiplier * 0.5 / np.sqrt(1 - settings.privacy.scalar_budget)
    for number, record in enumerate(records, start=1):
        figures = {"noise_deviation": pytest.approx(deviation), "secret_cohorts": settings.privacy.secret_coins}
        assert record.mechanism == {**used, **figures}
        assert (record.epsilon_release, record.epsilon_server) == epsilon_so_far(settings, 6, records[:number], D)
        assert sorted(record.returned) == record.clients and record.survivors == len(record.clients)
    spent = entries_of(Ledger(tmp_path / "ledger.jsonl"), SIX)
    assert [(each.promise, each.clients) for each in spent] == [
        ({**used, "rounds": settings.federation.rounds}, tuple(SIX))
    ]
    report = json.loads(json.dumps(account("privfedtalk", settings, 6, records, D, spent).to_json()))
    assert contradictions("privfedtalk", report, [RoundRecord(**line) for line in written(tmp_path)]) == []


def quiet(settings: TrainingSettings) -> TrainingSettings:
    """So little noise that the scalars can be read."""
    return settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"noise_multiplier": 1e-4})})


def test_scalars_under_poisson_sampling_are_read_by_the_number_that_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the number that came they would tell it. All clients clip nothing, weigh 4/16 e^(-γ/2) and score a half."""
    monkeypatch.setattr("training.privacy.accounting.coins.secrets.token_bytes", lambda size: bytes([2]) * size)
    weight = 4 / 16 * np.exp(-0.5 * everybody().privacy.gamma)
    for came, record in zip((6, 5), run(quiet(sampled(rounds=2)), tmp_path / "poisson").records, strict=True):
        assert record.survivors == came
        assert record.within_clip == pytest.approx((0.5 * came + 0.5 * 5) / 5, abs=0.01)
        assert record.weight_sum == pytest.approx((weight - 0.5) * came + 0.5 * 5, abs=0.05)
        assert record.score_mean == record.metrics["score"] == pytest.approx(0.5, abs=0.01)
    records = run(quiet(everybody()), tmp_path / "full").records
    assert [each.update_norm for each in records] == pytest.approx([records[0].update_norm] * 3, rel=0.01)
    for record in records:
        assert record.within_clip == pytest.approx(1.0, abs=0.01)
        assert record.weight_sum == pytest.approx(6 * weight, abs=0.05)
        assert record.score_mean == record.metrics["score"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("mode", ["distributed", "central", "none"])
def test_a_round_of_nobody_is_noise_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Where something is promised; else nothing happens in it."""
    monkeypatch.setattr("training.privacy.accounting.coins.secrets.token_bytes", lambda size: bytes([8]) * size)
    settings = everybody(sampling="poisson", clients_per_round=1, rounds=2)
    privacy = settings.privacy.model_copy(update={"mode": mode, "secure_aggregation": mode != "none"})
    alone, two = run(settings.model_copy(update={"privacy": privacy}), tmp_path, seed=72).records
    assert (alone.clients, alone.survivors, alone.returned) == ([], 0, []) and len(two.clients) == 2
    assert two.outcome == "applied" and alone.outcome == ("empty" if mode == "none" else "applied")
    assert (alone.update_norm > 0) == (alone.weight_sum is not None) == (mode != "none")


def test_a_pool_begins_in_the_ledger_under_the_names_of_its_people(tmp_path: Path) -> None:
    run(everybody(rounds=1), tmp_path, method="centralized", clients=["pool"], people=SIX)
    (entry,) = Ledger(tmp_path / "ledger.jsonl").entries()
    assert (entry.clients, entry.promise) == (tuple(SIX), None) and "in one place" in entry.why


def test_a_round_that_one_client_less_would_not_have_opened_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of five are the fewest that open, and of four nobody may be missing."""
    monkeypatch.setattr("training.privacy.accounting.coins.secrets.token_bytes", lambda size: bytes([2]) * size)
    settings = sampled(rounds=2)
    only(lambda drawn: 4 if drawn == 5 else drawn, monkeypatch)
    records = run(settings, tmp_path).records
    assert [len(record.clients) for record in records] == [6, 5], "what this key draws"
    assert [record.near_abort for record in records] == [False, True]
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.entries()[0].near
    assert not account("privfedtalk", settings, 6, records, D, ledger.entries()).accountant_release.startswith("RDP (P")


def test_an_abandoned_round_opens_nothing_and_costs_nothing_where_all_take_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, came = everybody(rounds=4), iter([6, 3, 6, 3])
    only(lambda drawn: next(came), monkeypatch)
    records = run(settings, tmp_path).records
    assert [record.outcome for record in records] == ["applied", "aborted", "applied", "aborted"]
    assert [record.returned for record in records] == [SIX, [], SIX, []]
    (entry,) = Ledger(tmp_path / "ledger.jsonl").entries()
    assert (entry.opened, entry.drawn, entry.near) == (2, 4, False)


def test_other_settings_begin_another_federation_and_the_ledger_keeps_the_first(tmp_path: Path) -> None:
    """With coins of its own: two federations that drew alike would not be two."""
    as_before: dict = {"settings": everybody(rounds=1), "folder": tmp_path}
    others: list[dict] = [
        {},
        {"settings": everybody(rounds=1, learning_rate=1e-3)},
        {"clients": SIX[1:]},
        {"seed": 6},
        {"base_sha256": "another"},
        {"validation": "others"},
        {"method": "fedavg"},
    ]
    for number, other in enumerate(others, start=1):
        as_before |= other  # each differs from the one before it in this alone
        run(**as_before)
        assert len(Ledger(tmp_path / "ledger.jsonl").entries()) == number
    # More rounds of the same are the same federation.
    run(**{**as_before, "settings": everybody(rounds=2, learning_rate=1e-3)})
    entries = Ledger(tmp_path / "ledger.jsonl").entries()
    assert len(entries) == len(others) == len({entry.federation for entry in entries})


def test_what_promises_nothing_begins_in_the_ledger_and_says_why(tmp_path: Path) -> None:
    settings = everybody()
    seeded = settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"seeded_noise": 1})})
    run(seeded, tmp_path)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    (entry,) = ledger.entries()
    assert entry.promise is None and "seed" in entry.why and [line["event"] for line in ledger.lines()] == ["begins"]
    assert "together" in asdict(account("privfedtalk", seeded, 6, run(seeded, tmp_path).records, D, ledger.entries()))


def test_a_client_is_drawn_until_its_cap_and_lost_sums_count_towards_it(tmp_path: Path) -> None:
    settings = everybody(rounds=2)
    capped = settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"max_participation": 2})})
    assert len(run(capped, tmp_path / "whole").records) == 2
    killed_after(1, capped, tmp_path / "cut")
    with pytest.raises(Exception, match="which is the cap"):
        run(capped, tmp_path / "cut")


def test_nothing_of_a_discarded_checkpoint_is_gone_on_from_and_nothing_else_goes(tmp_path: Path) -> None:
    run(everybody(rounds=1), tmp_path)
    folder = tmp_path / "f"
    (folder / "privacy.json").write_text("{}")
    assert load_checkpoint(folder, "another") is None
    fingerprint = json.loads((folder / "checkpoint" / "state.json").read_text())["fingerprint"]
    whole = load_checkpoint(folder, fingerprint)
    assert whole is not None and whole.best_round == 1
    discard_checkpoint(folder)
    assert [path.name for path in folder.iterdir()] == ["privacy.json"]
    assert load_checkpoint(folder, fingerprint) is None and resume_federation(folder, fingerprint, 5) is None


def test_a_log_that_is_gone_is_named(tmp_path: Path) -> None:
    run(everybody(rounds=1), tmp_path)
    (tmp_path / "f" / "rounds.jsonl").unlink()
    with pytest.raises(CorruptFileError, match="has 0 of the 1 rounds"):
        run(everybody(rounds=2), tmp_path)


@pytest.mark.parametrize("seed", [None, 3])
def test_a_record_says_whether_its_cohort_was_secret(tmp_path: Path, seed: int | None) -> None:
    settings = sampled(rounds=1)
    settings = settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"seeded_noise": seed})})
    (record,) = run(settings, tmp_path).records
    assert record.mechanism["secret_cohorts"] is (seed is None)


def test_poisson_sampling_is_where_each_client_is_drawn_by_itself_and_something_is_promised() -> None:
    assert poisson_sampling_of(sampled(), 6) == PoissonSampling(6, 5.0)
    for settings in (everybody(), everybody(sampling="fixed", clients_per_round=5), sampled(rounds=1)):
        drawn = settings.federation.sampling == "poisson" and settings.federation.clients_per_round is not None
        assert (poisson_sampling_of(settings, 6) is not None) == drawn and poisson_sampling_of(settings, 5) is None
    bare = sampled()
    bare = bare.model_copy(update={"privacy": bare.privacy.model_copy(update={"mode": "none"})})
    assert poisson_sampling_of(bare, 6) is None


def test_clip_norm_and_divisor_follow_the_rounds_that_were_applied() -> None:
    settings = everybody()
    privacy = settings.privacy.model_copy(update={"adaptive_clipping": True, "denominator": "lagged"})
    settings = settings.model_copy(update={"privacy": privacy})
    first = round_record(1, within_clip=0.9, weight_sum=5.0)
    taken_back = round_record(2, within_clip=0.1, weight_sum=50.0, outcome="rolled back")
    nothing = round_record(3, within_clip=None, weight_sum=None, outcome="aborted", returned=[])
    once = open_round(settings, 6, 6, [first], 5)
    assert once.mechanism.clip_norm == adapted_clip_norm(0.5, 0.9, privacy) != 0.5
    assert once.denominator != open_round(settings, 6, 6, [], 5).denominator
    again = open_round(settings, 6, 6, [first, taken_back, nothing], 5)
    assert (again.mechanism.clip_norm, again.denominator) == (once.mechanism.clip_norm, once.denominator)
    assert again.taken_part is not None and again.taken_part["c0"] == [1, 2]


def test_all_coordinates_that_clients_train_are_accounted_for(tmp_path: Path) -> None:
    """Fewer of them would be a smaller sensitivity of what is rounded to the grid."""
    factors = Factors.of({"layer.lora_A.weight": (2, 10), "layer.lora_B.weight": (10, 2)})
    (record,) = run(everybody(rounds=1), tmp_path, factors=factors).records
    assert factors.size == 100 and record.mechanism["dimension"] == D == 40


def test_a_federation_that_is_given_no_ledger_keeps_one_in_its_folder(tmp_path: Path) -> None:
    start = Start(np.zeros(D, np.float32), "base")
    run_federation(Senders(), "privfedtalk", start, SIX, lambda theta: 0.0, everybody(rounds=1), tmp_path, seed=5)
    assert [entry.opened for entry in Ledger(tmp_path / "ledger.jsonl").entries()] == [1]
