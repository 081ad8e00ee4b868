"""Clients who go missing or send what is wrong: the round survives, the log names them, theta stays finite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import PrivFedTalkError
from tests.training.small_federation import CLIENTS, InProcess, TrainerFor, federate, settings_with
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.faults import STAGES, Fate, fates, silent
from training.federation.methods.base import Theta
from training.federation.server.checkpoint import RoundRecord
from training.privacy.secure_aggregation.in_process import DropStage
from training.settings import FederationSettings, TrainingSettings
from training.settings.rounds import AvailabilitySettings, CheckSettings, FaultSettings

MANY = [f"c{i}" for i in range(400)]


def with_federation(settings: TrainingSettings, **update: object) -> TrainingSettings:
    federation = FederationSettings.model_validate({**settings.federation.model_dump(), **update})
    return settings.model_copy(update={"federation": federation})


def test_each_chance_is_met_and_depends_on_nobody_else() -> None:
    chances = AvailabilitySettings(before_training=0.1, after_training=0.2, during_upload=0.3)
    drawn = [fates(MANY, chances, seed=1, number=n) for n in range(1, 9)]
    lost = [fate.lost for each in drawn for fate in each.values()]
    there = lost.count("")
    assert lost.count("before training") / len(lost) == pytest.approx(0.1, abs=0.02)
    assert lost.count("after training") / (there + lost.count("after training")) == pytest.approx(0.2, abs=0.03)
    silences = [len(silent(each).get(stage, ())) for stage in STAGES for each in drawn]
    assert sum(silences) / there == pytest.approx(0.3, abs=0.03)
    assert min(np.reshape(silences, (5, 8)).sum(1)) > 100
    assert fates(MANY[3:5], chances, 1, 2) == {client: drawn[1][client] for client in MANY[3:5]}
    # Another chance raised leaves who is gone before training.
    more = fates(MANY, chances.model_copy(update={"during_upload": 0.9}), 1, 1)
    assert [fate.lost for fate in more.values()] == [fate.lost for fate in drawn[0].values()]


def test_slow_devices_stay_slow_and_miss_the_deadline() -> None:
    settings = AvailabilitySettings(median_seconds=60, device_spread=0.5, round_spread=0.1, deadline_seconds=120)
    drawn = [fates(MANY, settings, seed=1, number=n) for n in (1, 2)]
    seconds = np.log([[each[client].seconds for client in MANY] for each in drawn])
    assert np.median(np.exp(seconds)) == pytest.approx(60, rel=0.1)
    assert np.corrcoef(seconds)[0, 1] == pytest.approx(0.25 / 0.26, abs=0.02)
    for each in drawn:
        assert all((fate.lost == "past the deadline") == (fate.seconds > 120) for fate in each.values())
        assert 5 < sum(fate.lost != "" for fate in each.values()) < 100


class Scripted(InProcess):
    """The engine, and what the clients were asked."""

    asked: list[tuple[list[str], Announcement]]

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        self.asked = [*getattr(self, "asked", []), (list(clients), announced)]
        return super().train(clients, announced)


@pytest.mark.parametrize(("method", "silent_at"), [("privfedtalk", None), ("fedavg", "consent")])
def test_a_round_goes_on_without_those_who_are_gone(
    trainer_for: TrainerFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, silent_at: DropStage | None
) -> None:
    """The sum is that of a federation in which the missing were never asked; upload stages as the protocol has them."""
    settings = settings_with(method, survivor_floor=0.6)
    script = {"c0": Fate("after training", None, 1.0), "c1": Fate("", silent_at, 1.0), "c2": Fate("", None, 1.0)}
    monkeypatch.setattr(
        "training.federation.faults.fates", lambda clients, *_: {client: script[client] for client in clients}
    )
    result = federate(trainer_for, method, settings, tmp_path / "f", rounds=1)
    (record,) = result.records
    assert record.outcome == "applied"
    assert record.returned == ["c1", "c2"]
    quiet = {"c1": silent_at} if silent_at else {}
    assert record.dropped == {"c0": "update", **quiet}
    assert record.simulation["lost"] == {"c0": "after training", **{c: f"silent at {at}" for c, at in quiet.items()}}
    trainer = trainer_for(settings, method)
    theta = trainer.adapter.vector()
    deltas = {client: trainer.train(client, Announcement(1, theta)) for client in ("c1", "c2")}
    total = np.zeros(len(theta))
    for number, update in enumerate(deltas.values(), 2):
        clipped = update.delta * np.minimum(1.0, settings.privacy.clip_norm / np.linalg.norm(update.delta))
        total += number / 3 * np.exp(settings.privacy.gamma * (update.score - 1)) * clipped
    divisor = 3 * 0.5 if method == "privfedtalk" else 5 / 3
    np.testing.assert_allclose(result.theta, theta + total / divisor, atol=1e-6)


def test_whoever_falls_silent_after_the_vector_is_in_the_sum(
    trainer_for: TrainerFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with("privfedtalk")
    whole = federate(trainer_for, "privfedtalk", settings, tmp_path / "whole", rounds=1)
    cases: list[tuple[DropStage, Sequence[str]]] = [("unmask", CLIENTS), ("masked_input", ["c0", "c2"])]
    for at, returned in cases:
        script = {"c1": Fate("", at, 1.0)}
        monkeypatch.setattr(
            "training.federation.faults.fates",
            lambda clients, *_, s=script: {c: s.get(c, Fate("", None, 1.0)) for c in clients},
        )
        lower = settings_with("privfedtalk", survivor_floor=0.6)
        result = federate(trainer_for, "privfedtalk", lower, tmp_path / at, rounds=1)
        assert result.records[0].returned == returned
        assert np.array_equal(result.theta, whole.theta) == (returned == CLIENTS)


@pytest.mark.parametrize(
    ("method", "fate", "reason"),
    [
        ("privfedtalk", Fate("past the deadline", None, 1.0), "1 clients left after training, 3 needed"),
        ("privfedtalk", Fate("", "share_keys", 1.0), "1 clients left after share_keys, 3 needed"),
        ("fedavg", Fate("", "masked_input", 1.0), "1 clients left after masked_input, 3 needed"),
        ("scaffold", Fate("before training", None, 1.0), "1 clients left after training, 3 needed"),
    ],
)
def test_below_the_floor_the_round_is_abandoned_and_the_next_goes_on(
    trainer_for: TrainerFor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fate: Fate,
    reason: str,
) -> None:
    """Two good rounds with a failed one between them are two good rounds: no state has moved in it."""
    here = Fate("", None, 1.0)

    def scripted(clients: Sequence[str], _settings: object, _seed: int, number: int) -> dict[str, Fate]:
        return {client: fate if number == 2 and client != "c1" else here for client in clients}

    monkeypatch.setattr("training.federation.faults.fates", scripted)
    settings = settings_with(method)
    result = federate(trainer_for, method, settings, tmp_path / "f", rounds=3)
    first, failed, third = result.records
    assert (first.outcome, failed.outcome, third.outcome) == ("applied", "aborted", "applied")
    assert failed.reason == reason
    assert failed.update_norm == 0
    assert failed.returned == []
    assert failed.weight_sum is None
    # Nothing was opened, so nothing was spent; third's clients go on from round 1.
    assert failed.epsilon_release == first.epsilon_release
    if method == "scaffold":
        counted = Announcement(3, result.theta, counted=dict.fromkeys(CLIENTS, 1)).counted
        states = trainer_for(settings, method).storage
        assert all(states.load_state(client, counted[client]) for client in CLIENTS)


FAULTS = ["nan", "exploding", "zero", "sign_flipped", "stale"]


def run_with_fault(
    trainer_for: TrainerFor, folder: Path, method: str, kind: str, rounds: int = 2, **privacy: object
) -> tuple[FederationResult, Scripted, Theta]:
    settings = settings_with(method, **privacy)
    fault = FaultSettings(kind=kind, clients=("c1",))
    settings = with_federation(settings, faults=[fault.model_dump()], rounds=rounds)
    trainer = trainer_for(settings, method)
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256)
    engine = Scripted(trainer)
    result = run_federation(engine, method, start, CLIENTS, lambda theta: 1.0, settings, folder, seed=5)
    return result, engine, start.theta


@pytest.mark.parametrize("kind", FAULTS)
def test_a_round_survives_every_fault(trainer_for: TrainerFor, tmp_path: Path, kind: str) -> None:
    result, engine, start = run_with_fault(trainer_for, tmp_path / "f", "privfedtalk", kind, noise_multiplier=0.1)
    assert np.isfinite(result.theta).all()
    for record in result.records:
        assert record.simulation["faults"] == {"c1": kind}
        seen = {key: value for key, value in asdict(record).items() if key != "simulation"}
        assert kind not in json.dumps(seen)
        assert record.outcome == "applied"
        assert record.returned == CLIENTS
    json.loads((tmp_path / "f" / "rounds.jsonl").read_text().splitlines()[0], parse_constant=pytest.fail)
    if kind == "stale":
        asked = [(clients, announced.theta) for clients, announced in engine.asked if announced.round == 2]
        np.testing.assert_array_equal({tuple(c): theta for c, theta in asked}["c1",], start)
        assert all(np.abs(theta - start).max() > 1e-4 for clients, theta in asked if "c1" not in clients)


def test_a_client_that_does_not_clip_spoils_a_round_but_not_theta(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """No one sees the single vector, yet the sum gives it away, under noise that hides an honest client."""
    with pytest.raises(PrivFedTalkError, match="more than the"):
        run_with_fault(trainer_for, tmp_path / "f", "privfedtalk", "unclipped", noise_multiplier=1.0)
    for record in records_of(tmp_path / "f"):
        assert record.outcome == "rolled back"
        assert record.update_norm == 0
        assert record.opened


def test_an_update_that_is_no_number_sends_zeros_and_its_share_of_noise(
    trainer_for: TrainerFor, tmp_path: Path
) -> None:
    quiet, _, start = run_with_fault(trainer_for, tmp_path / "a", "privfedtalk", "nan", rounds=1)
    loud, _, _ = run_with_fault(trainer_for, tmp_path / "b", "privfedtalk", "nan", rounds=1, noise_multiplier=2.0)
    trainer = trainer_for(settings_with("privfedtalk"), "privfedtalk")
    total = np.zeros(len(start))
    for client, clips in (("c0", 1), ("c2", 3)):
        update = trainer.train(client, Announcement(1, start))
        total += clips / 3 * np.exp(0.5 * (update.score - 1)) * update.delta * 0.05 / np.linalg.norm(update.delta)
    np.testing.assert_allclose(quiet.theta, start + total / 1.5, atol=1e-6)
    deviation = 2.0 * 0.05 / np.sqrt(0.95) / 1.5
    assert (loud.theta - quiet.theta).std() == pytest.approx(deviation, rel=0.05)
    assert quiet.records[0].simulation["clients"]["c1"]["update_norm"] is None


@pytest.mark.parametrize("method", ["fedavg", "scaffold"])
def test_without_privacy_a_broken_update_weighs_nothing(trainer_for: TrainerFor, tmp_path: Path, method: str) -> None:
    result, _, start = run_with_fault(trainer_for, tmp_path / "f", method, "nan", rounds=1)
    trainer = trainer_for(settings_with(method), method)
    shared = {"c": np.zeros_like(start)} if method == "scaffold" else {}
    deltas = {client: trainer.train(client, Announcement(1, start, shared)).delta for client in ("c0", "c2")}
    np.testing.assert_allclose(result.theta, start + (deltas["c0"] + 3 * deltas["c2"]) / 4, atol=1e-6)


def test_when_nobodys_update_is_finite_nothing_moves(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = with_federation(settings_with("fedavg"), faults=[{"kind": "nan", "clients": CLIENTS}])
    with pytest.raises(PrivFedTalkError, match="none of the 3 rounds of fedavg moved the adapter"):
        federate(trainer_for, "fedavg", settings, tmp_path / "f")


def test_faults_must_name_clients_and_leave_somebody(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = with_federation(settings_with("fedavg"), faults=[{"kind": "zero", "clients": ["c9"]}])
    with pytest.raises(PrivFedTalkError, match="faults names c9"):
        federate(trainer_for, "fedavg", settings, tmp_path / "f")
    with pytest.raises(ValueError, match="every client in every round"):
        FaultSettings(kind="zero")


def records_of(folder: Path) -> list[RoundRecord]:
    return [RoundRecord(**json.loads(line)) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_an_adapter_that_got_worse_is_taken_back_and_paid_for(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """Rolled back: theta, the server's state and the clients' are those of the round before; epsilon is not."""
    settings = settings_with("fedadam").model_copy(
        update={"privacy": settings_with("privfedtalk", noise_multiplier=1.0).privacy}
    )
    settings = with_federation(settings, checks=CheckSettings(worsening=0.1).model_dump())
    trainer = trainer_for(settings, "fedadam")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256)
    losses = iter([1.0, 1.05, 1.2, 1.1])  # start, then after each round

    def run(folder: Path) -> FederationResult:
        engine = InProcess(trainer)
        return run_federation(engine, "fedadam", start, CLIENTS, lambda _: next(losses), settings, folder, seed=5)

    result = run(tmp_path / "f")
    assert [r.outcome for r in result.records] == ["applied", "rolled back", "applied"]
    assert [r.public_validation_loss for r in result.records] == [1.05, 1.05, 1.1]
    assert "from 1.0500 to 1.2000" in result.records[1].reason
    assert result.records[1].update_norm == 0
    spent = [r.epsilon_release for r in result.records if r.epsilon_release is not None]
    assert spent[0] < spent[1] < spent[2]
    assert records_of(tmp_path / "f") == result.records
    # FedAdam's moments: two steps of them, not three.
    tau2, beta2 = settings.fedadam.tau**2, settings.fedadam.beta2
    v = load_file(tmp_path / "f" / "checkpoint" / "round-00003.safetensors")["server.v"]
    assert v.min() >= 0.99 * beta2**2 * tau2


def test_a_loss_that_is_no_number_is_never_kept(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("fedavg")
    trainer = trainer_for(settings, "fedavg")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256)
    losses = iter([1.0, np.nan, np.inf])
    records = run_federation(
        InProcess(trainer), "fedavg", start, CLIENTS, lambda _: next(losses), settings, tmp_path / "f", seed=5
    ).records
    assert [r.outcome for r in records] == ["applied", "rolled back", "rolled back"]
    assert [r.public_validation_loss for r in records] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_best_adapter_is_kept_apart_and_across_resumption(
    trainer_for: TrainerFor, tmp_path: Path, keep: str
) -> None:
    thetas: list[Theta] = []

    def loss(theta: Theta) -> float:
        thetas.append(theta)
        return {1: 0.5, 2: 0.3}.get(len(thetas), 0.4)

    settings = with_federation(settings_with("fedavg"), keep=keep)
    trainer = trainer_for(settings, "fedavg")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256)
    for rounds in (2, 3):
        some = with_federation(settings, rounds=rounds)
        result = run_federation(InProcess(trainer), "fedavg", start, CLIENTS, loss, some, tmp_path / "f", seed=5)
    np.testing.assert_array_equal(result.theta, thetas[1 if keep == "best" else 2])
    names = sorted(path.name for path in (tmp_path / "f" / "checkpoint").glob("*.safetensors"))
    assert names == ["best-00002.safetensors", "round-00003.safetensors"]


def test_a_client_that_really_diverges_goes_on_from_what_it_kept(trainer_for: TrainerFor) -> None:
    trainer = trainer_for(settings_with("scaffold"), "scaffold")
    theta = trainer.adapter.vector()
    shared = {"c": np.zeros_like(theta)}
    trainer.train("c0", Announcement(1, theta, shared))
    update = trainer.train("c0", Announcement(2, np.full_like(theta, np.nan), shared, {"c0": 1}))
    assert not np.isfinite(update.delta).any()
    first, second = (trainer.storage.load_state("c0", number)["c"] for number in (1, 2))
    np.testing.assert_array_equal(first, second)
