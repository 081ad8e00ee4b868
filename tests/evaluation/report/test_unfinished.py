"""A run before it is trained, before it is measured, and under settings of another day: plain errors, no tracebacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.text.commands import command
from evaluation.attacks.inversion_figures import run_inversion
from evaluation.attacks.inversion_run import InversionSettings
from evaluation.measuring.clips import read_evaluation_clips
from preparation.shards.store import read_shards, write_shards
from tests.small_whole_run import EVALUATION, TRAINING, audit, make_run, report, train
from training.adapters.adapter import Adapter
from training.model.backbones.tiny import TinyBackbone
from training.settings import AdapterSettings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("runs") / "my run")


def test_nothing_is_reported_before_it_is_measured(prepared: RunFolder) -> None:
    with pytest.raises(PrivFedTalkError, match=r"nothing of .* is evaluated yet") as caught:
        report(prepared)
    assert caught.value.remedy == command("evaluate", run=prepared.root)


def test_what_is_not_trained_claims_nothing(prepared: RunFolder, tmp_path: Path) -> None:
    for run in (prepared, RunFolder(tmp_path / "empty")):
        with pytest.raises(PrivFedTalkError, match=r"fedavg is not trained in .*, so it claims nothing") as caught:
            audit(run)
        assert command("train", run=run.root, method="fedavg") in caught.value.remedy


def test_a_client_of_one_clip_is_named_where_it_cannot_take_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    for name, split in (("bela", "train"), ("cleo", "test")):
        write_shards(run.client(name), list(read_shards(run.client(name), split)))
    train(run)
    assert "2 clients do not take part (bela, cleo): they have no usable clip" in capsys.readouterr().err
    told = json.loads(run.participants("fedavg").read_text())
    assert told["clients"] == ["anna", "dora"]
    assert told["left_out"]["bela"] == "no usable clip for validation"
    assert told["left_out"]["cleo"] == "no usable clip for train and validation"
    clips = read_evaluation_clips(run, EVALUATION)
    assert {clip.client for clip in clips} >= {"anna", "cleo", "dora"}  # who tests only is measured all the same


def test_an_adapter_of_other_settings_is_not_inverted_with_a_traceback(prepared: RunFolder) -> None:
    adapter = Adapter(TinyBackbone.load(prepared.model("backbone")), AdapterSettings(rank=4), seed=0)
    adapter.save(prepared.adapter("fedavg"), adapter.vector(), {})
    with pytest.raises(PrivFedTalkError, match=r"has another backbone, rank or layers than the run"):
        run_inversion(prepared, "fedavg", TRAINING, 0, InversionSettings(clients=2, cohort=3, steps=1, guesses=1))
