"""A model that is noise, or whose lips are a still picture's, fails the blocking checks; nothing after them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets.evaluation.reports import models_beat_gates, quality_gates
from assets.stage.run import Run
from common.folders import RunFolder
from evaluation.measuring.protocol import copy_reference, evaluate_method
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, Generate
from evaluation.report.gather import gather_results
from evaluation.results.document import write_results
from pipelines.configuration.tree import load, read_overrides
from pipelines.resources import RunResource
from tests.evaluation.measuring.test_protocol import NETWORKS, listener, make_clip

CLIPS = [make_clip(index, f"c{index // 2:04d}") for index in range(4)]
REAL = ("corpus.kind=lrs3", "corpus.root=somewhere", "training.privacy.seeded_noise=null")


def noise(clip: EvaluationClip, speech: Floats) -> Frames:
    """The same of every clip, as from an untrained network."""
    return np.random.default_rng(0).integers(0, 256, (len(speech), *clip.reference.shape), dtype=np.uint8)


@dg.asset(name="report")
def measured(run: dg.ResourceParam[Run]) -> None:
    """Stands where the page does, which needs a whole run; results.json is gathered as for the page."""
    gates = ["copy_reference", "noise"]
    facts: dict[str, Any] = {
        "peak_memory_gb": 1.0,
        "corpus": {"kind": run.corpus_kind.value},
        "face_tracker": "",
        "seed": 0,
    }
    found = gather_results(run.folder, ["fedavg"], gates, {}, **facts, required=False)  # nobody is recorded here
    write_results(found, run.folder.results)


@dg.asset(deps=[measured])
def afterwards() -> None:
    """What would build on the report."""


def checked(data: Path, model: Generate, check: dg.AssetChecksDefinition, *settings: str) -> dg.AssetCheckEvaluation:
    """Measure a model and the gates, frame by frame; what the check says of it in a run that it lets go on or stops."""
    folder = RunFolder(data / "small")
    for name, generate in (("fedavg", model), ("copy_reference", copy_reference), ("noise", noise)):
        evaluate_method(name, generate, CLIPS, NETWORKS, folder=folder.evaluation(name), speaks=name == "fedavg")
    done = dg.materialize(
        [measured, check, afterwards],
        resources={
            "run": RunResource(profile="small", overrides=read_overrides([f"data={data}", "gates=true", *settings]))
        },
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
    )
    (found,) = done.get_asset_check_evaluations()
    made = {event.asset_key.to_user_string() for event in done.get_asset_materialization_events() if event.asset_key}
    stops = not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
    assert done.success != stops and made == ({"report"} if stops else {"report", "afterwards"})
    return found


@pytest.mark.parametrize(
    ("model", "check", "says"),
    [
        (noise, models_beat_gates, "FedAvg does not beat noise on PSNR"),
        (noise, quality_gates, "lost_to_noise is 5, wanted at most 0"),
        (copy_reference, models_beat_gates, "FedAvg does not beat still picture on lip correlation: 0 against 0"),
        (copy_reference, quality_gates, "lip_correlation is 0, wanted at least 0.9"),
    ],
)
def test_what_does_not_generate_stops_the_run(
    tmp_path: Path, model: Generate, check: dg.AssetChecksDefinition, says: str
) -> None:
    found = checked(tmp_path, model, check)
    assert not found.passed and found.severity == dg.AssetCheckSeverity.ERROR and found.blocking
    assert says in str(found.description)


@pytest.mark.parametrize("check", [models_beat_gates, quality_gates])
def test_what_follows_its_speech_passes(tmp_path: Path, check: dg.AssetChecksDefinition) -> None:
    assert checked(tmp_path, listener, check).passed


def test_bars_bind_only_rendered_people_and_nothing_where_gates_are_off(tmp_path: Path) -> None:
    warning, error = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
    assert checked(tmp_path, noise, quality_gates, *REAL).passed
    assert checked(tmp_path, noise, quality_gates, "gates=false").severity == warning
    assert checked(tmp_path, noise, models_beat_gates, *REAL).severity == error
    assert checked(tmp_path, noise, models_beat_gates, "gates=false").severity == warning


@pytest.mark.parametrize("profile", ["demo", "paper", "sd15"])
def test_runs_for_their_figures_are_held_to_the_gates(profile: str) -> None:
    assert load(profile, []).gates
