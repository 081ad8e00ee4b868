"""A federation over the shards of a run: who takes part in it, and who cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.settings import Settings
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import Sample, write_shards
from tests.training.small_federation import CLIENTS, sample_for, save_public, whole_settings
from training.learning.eligible import short_clients
from training.model.backbones.tiny import TinyBackbone
from training.pipeline import federate
from training.settings import ExecutionSettings, TrainingSettings

WINDOW = 6


@pytest.fixture
def run(tmp_path: Path, backbone: TinyBackbone) -> RunFolder:
    """Three clients of clips of twelve frames, twice the window, and a public speaker who is held out."""
    run = RunFolder(tmp_path)
    table = save_public(run, backbone)
    for client in CLIENTS:
        write_client(run, client)
        table[client] = Client("client", client, {"train": [], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    save_clients(table, run.people_table)
    return run


def write_client(run: RunFolder, client: str, train: int = 12, validation: int = 12) -> None:
    """A client whose clips have so many frames."""
    lengths = {"train": train, "validation": validation, "test": 12}
    samples = [cut(sample_for(client, i, split), frames) for i, (split, frames) in enumerate(lengths.items())]
    write_shards(run.client(client), samples)


def cut(sample: Sample, frames: int) -> Sample:
    assert sample.motion is not None
    return replace(
        sample,
        latents=sample.latents[:frames],
        speech=sample.speech[:frames],
        landmarks=sample.landmarks[:frames],
        motion=sample.motion[:frames],
    )


def settings_of(**federation: object) -> TrainingSettings:
    whole = whole_settings()
    changed: Settings = whole.federation.model_copy(update={"rounds": 1, "local_steps": 1, **federation})
    return whole.model_copy(update={"federation": changed, "execution": ExecutionSettings(engine="here")})


@pytest.mark.parametrize("method", ["fedavg", "centralized"])
def test_a_client_whose_clips_are_shorter_than_a_window_sits_out_and_is_named(
    run: RunFolder, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others' adapter is that of a run in which it never was."""
    write_client(run, "c1", train=WINDOW - 1)
    found = federate(run, method, settings_of(), seed=0, resume=False)
    reason = "no clip for train is as long as a window of 6 frames (the longest has 5)"
    assert f"c1 does not take part: {reason}; give longer clips" in capsys.readouterr().err
    noted = json.loads(run.participants(method).read_text())
    assert noted == {"clients": ["c0", "c2"], "left_out": {"c1": reason}}
    assert "c1" not in found.records[0].clients
    table = json.loads(run.clients_table.read_text())
    table.pop("c1")
    run.clients_table.write_text(json.dumps(table))
    without = federate(run, method, settings_of(), seed=0, resume=False)
    assert (found.theta == without.theta).all()


def test_where_nobodys_clips_are_long_enough_that_is_said_before_the_first_round(run: RunFolder) -> None:
    for client in CLIENTS:
        write_client(run, client, train=WINDOW - 1)
    with pytest.raises(PrivFedTalkError, match=r"can train: c0: no clip .* 6 frames .* has 5\), and 2 others") as error:
        federate(run, "fedavg", settings_of(), seed=0, resume=False)
    assert "training.backbone.window" in error.value.remedy
    assert not run.federation("fedavg").exists()


def test_a_score_by_speech_needs_a_validation_clip_of_a_window_too(run: RunFolder) -> None:
    write_client(run, "c2", validation=WINDOW - 1)
    write_client(run, "c1", train=WINDOW, validation=WINDOW)
    assert short_clients(run, CLIENTS, settings_of()) == {}
    assert list(short_clients(run, CLIENTS, settings_of(score="speech"))) == ["c2"]


def test_rounds_are_compared_on_volunteers_and_without_any_on_public_speakers(run: RunFolder) -> None:
    """The other speech of the volunteer's clip gives another loss; the adapter says which round it is of."""
    public = federate(run, "fedavg", settings_of(rounds=2, keep="best"), seed=0, resume=False)
    write_shards(run.client("v0"), [sample_for("c2", 3, "validation")])
    table = json.loads(run.people_table.read_text())
    table["v0"] = {"role": "volunteer", "speaker": "v0", "splits": {"train": [], "validation": ["v0/0"], "test": []}}
    run.people_table.write_text(json.dumps(table))
    volunteers = federate(run, "fedavg", settings_of(rounds=2, keep="best"), seed=0, resume=False)
    losses = [[record.public_validation_loss for record in found.records] for found in (public, volunteers)]
    assert losses[0] != losses[1]
    assert volunteers.round == losses[1].index(min(losses[1])) + 1
    noted = json.loads((run.adapter("fedavg") / "privfedtalk.json").read_text())
    assert noted["round"] == str(volunteers.round)
    resumed = federate(run, "fedavg", settings_of(rounds=3, keep="best"), seed=0, resume=True)
    assert [record.public_validation_loss for record in resumed.records][:2] == losses[1]
    assert federate(run, "fedavg", settings_of(rounds=2), seed=0, resume=False).round == 2


def test_rounds_that_were_compared_on_other_clips_are_not_gone_on_from(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    federate(run, "fedavg", settings_of(rounds=1), seed=0, resume=True)
    write_shards(run.client("p0"), [sample_for("c2", 3, "validation")])
    federate(run, "fedavg", settings_of(rounds=2), seed=0, resume=True)
    assert "1 rounds of a run under other settings are deleted" in capsys.readouterr().err
