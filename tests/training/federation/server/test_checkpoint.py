"""Checkpoints of two runs that follow each other in one folder: neither ever goes on from the other's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common import files
from common.errors import CorruptFileError
from common.folders import RunFolder
from tests.training.small_federation import CLIENTS, InProcess, TrainerFor, federate, settings_with
from training.federation.algorithm import Start, run_federation
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement, LocalUpdate
from training.settings import TrainingSettings


def under_other_settings(settings: TrainingSettings) -> TrainingSettings:
    federation = settings.federation.model_copy(update={"learning_rate": 0.05})
    return settings.model_copy(update={"federation": federation})


def test_a_run_under_other_settings_that_is_killed_as_it_saves_is_not_taken_for_the_earlier_one(
    trainer_for: TrainerFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, folder = settings_with("fedavg"), tmp_path / "f"
    whole = federate(trainer_for, "fedavg", settings, folder, rounds=1)

    def killed(path: Path, text: str) -> None:
        if path.name == "state.json":
            raise KeyboardInterrupt
        files.write_text(path, text)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("training.federation.server.checkpoint.write_text", killed)
        federate(trainer_for, "fedavg", under_other_settings(settings), folder, rounds=1)
    assert "f: 1 rounds of a run under other settings are deleted" in capsys.readouterr().err
    again = federate(trainer_for, "fedavg", settings, folder, rounds=1)
    np.testing.assert_array_equal(again.theta, whole.theta)


class Stopped(InProcess):
    """Clients train, and the run ends before their updates are in a sum."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        super().train(clients, announced)
        raise KeyboardInterrupt


def test_what_clients_kept_under_other_settings_is_nobodys_to_go_on_from(
    trainer_for: TrainerFor, tmp_path: Path
) -> None:
    """SCAFFOLD's clients overwrite what they kept before the other run has any checkpoint of its own."""
    settings = settings_with("scaffold")
    whole = federate(trainer_for, "scaffold", settings, tmp_path / "whole", rounds=2)
    federate(trainer_for, "scaffold", settings, tmp_path / "f", rounds=1)
    other = under_other_settings(settings)
    trainer = trainer_for(other, "scaffold")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256, trainer.adapter.factors)
    with pytest.raises(KeyboardInterrupt):
        run_federation(Stopped(trainer), "scaffold", start, CLIENTS, lambda _: 0.0, other, tmp_path / "f", seed=5)
    again = federate(trainer_for, "scaffold", settings, tmp_path / "f", rounds=2)
    np.testing.assert_array_equal(again.theta, whole.theta)


def test_a_client_that_keeps_nothing_of_its_first_round_has_nothing_of_another_runs(tmp_path: Path) -> None:
    storage = ClientStorage(RunFolder(tmp_path), "scaffold")
    storage.save_state("c0", 3, 0, {"control": np.ones(3, np.float32)})
    storage.save_state("c0", 3, 0, {})  # its training diverged
    storage.save_state("c0", 4, 3, {"control": np.zeros(3, np.float32)})
    assert storage.load_state("c0", 3) == {}


def test_a_log_that_lost_rounds_is_named_and_nothing_is_taken_away(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings, folder = settings_with("fedavg"), tmp_path / "f"
    federate(trainer_for, "fedavg", settings, folder, rounds=2)
    log = folder / "rounds.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    with pytest.raises(CorruptFileError, match=r"rounds.jsonl has 1 of the 2 rounds") as error:
        federate(trainer_for, "fedavg", settings, folder, rounds=3)
    assert "--fresh" in error.value.remedy
    assert (folder / "checkpoint" / "round-00002.safetensors").exists()
