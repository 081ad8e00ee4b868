"""The data version of an evaluation: a hash of model, data, code, configuration and networks, and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets.evaluation.panel import evaluation, measure, version_of
from assets.stage import run as assets_run
from assets.stage.code import place_of, used_by
from assets.stage.run import Run
from assets.stage.stages import stage
from common.folders import RunFolder
from common.provenance import project_sources
from common.weights import registry as weights
from evaluation.settings import EvaluationSettings
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, PreparationSettings
from training.federation.methods import METHODS
from training.settings import GenerationSettings, TrainingSettings

BEFORE = ("clients", "dealing", "shards", "vae", "rulers", "backbone", "federation/fedavg", "federation/local")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose earlier stages each left one file."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = RunFolder(tmp_path / "run")
    for name in BEFORE:
        leave(folder, name, name)
    return Run(
        folder=folder, seed=0, corpus_kind=CorpusKind.STUDIO, corpus_root=folder.corpus, studio=StudioSettings(),
        preparation=PreparationSettings(), training=TrainingSettings(), evaluation=EvaluationSettings(), workers=1,
    )  # fmt: skip


def leave(folder: RunFolder, name: str, content: str) -> None:
    output = folder.root / "outputs" / name
    with stage(folder, name, inputs=[content], outputs=lambda: [output], keep=False):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(content)


@pytest.mark.parametrize("name", BEFORE[:-1])
def test_other_models_or_data_are_another_version(run: Run, name: str) -> None:
    before = version_of(run, "fedavg")
    leave(run.folder, name, "something else")
    assert version_of(run, "fedavg") != before
    leave(run.folder, name, name)  # the old content again is the old version again
    assert version_of(run, "fedavg") == before


def test_another_methods_adapter_is_no_part_of_it(run: Run) -> None:
    before, of_backbone = version_of(run, "fedavg"), version_of(run, "backbone")
    leave(run.folder, "federation/local", "trained anew")
    assert version_of(run, "fedavg") == before
    leave(run.folder, "federation/fedavg", "trained anew")
    assert version_of(run, "backbone") == of_backbone != before


def test_other_configuration_is_another_version(run: Run) -> None:
    before = version_of(run, "fedavg")
    training = TrainingSettings(generation=GenerationSettings(steps=9))
    for other in (
        replace(run, evaluation=EvaluationSettings(clips_per_client=3)),
        replace(run, training=training),
        replace(run, seed=1),
    ):
        assert version_of(other, "fedavg") != before
    # How clients were trained is in the adapter that came of it, not in how it is measured.
    assert version_of(replace(run, workers=7, gates=False), "fedavg") == before


def test_other_code_is_another_version(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version_of(run, "fedavg")
    asked: list[Callable[..., object]] = []

    def edited(make: Callable[..., object]) -> str:
        asked.append(make)
        return "edited"

    monkeypatch.setattr(assets_run, "code_version", edited)
    assert version_of(run, "fedavg") != before
    assert asked == [measure]
    used = used_by(*place_of(measure), project_sources())
    assert {name.partition(".")[0] for name in used.modules} == {"common", "preparation", "training", "evaluation"}


def test_a_judge_that_was_fetched_is_a_reason_to_measure_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EvaluationSettings(instruments=("flow", "light_asd"))
    before = version_of(replace(run, evaluation=settings), "fedavg")
    known = weights.REGISTRY["light_asd"]
    content = b"the network"
    monkeypatch.setitem(weights.REGISTRY, "light_asd", replace(known, sha256=hashlib.sha256(content).hexdigest()))
    weights.folders()[0].mkdir(parents=True)
    (weights.folders()[0] / known.file).write_bytes(content)
    assert version_of(replace(run, evaluation=settings), "fedavg") != before
    assert version_of(run, "fedavg") == version_of(replace(run, evaluation=EvaluationSettings()), "fedavg")


def test_every_method_and_reference_has_one(run: Run) -> None:
    partitions = evaluation.partitions_def
    assert isinstance(partitions, dg.StaticPartitionsDefinition)
    versions = {name: version_of(run, name) for name in partitions.get_partition_keys()}
    assert set(METHODS) < set(versions)
    assert versions["fedavg"] != versions["local"] != versions["backbone"]
