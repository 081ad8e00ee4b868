"""Checks that warn: the share of clips that were left out."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from assets.preparation.shards import few_clips_refused
from common.folders import RunFolder
from pipelines.configuration.tree import load
from pipelines.resources import open_run
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from preparation.quarantine import QuarantineRow, save_quarantine

GOOD, REFUSED = [f"ann/{number}" for number in range(6)], [f"bob/{number}" for number in range(3)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nine clips: six have a crop, three were refused, one of them for two reasons."""
    run = RunFolder(tmp_path / "small")
    clips = [
        Clip(name, name[:3], f"{name}.mp4", "x", "", 50, 25.0, 64, 64, 2.0, 16000, 1, name, None, None)
        for name in (*GOOD, *REFUSED)
    ]
    save_manifest(clips, run.manifest)
    for name in GOOD:
        path = run.crops_of(name) / f"{name[4:]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"frames": 50, "quality": {"face_rate": 1.0}, "tracker": "truth"}))
    rows = [QuarantineRow(f"{name}.mp4", "crops", "no face", "give a face") for name in REFUSED]
    save_quarantine([*rows, QuarantineRow("bob/0.mp4", "quality", "blurred", "focus")], run.quarantine)
    return tmp_path


def test_a_corpus_of_which_much_is_left_out_warns(data: Path) -> None:
    found = few_clips_refused(open_run(load("small", [f"data={data}"]), keep=True))
    assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    assert found.description == "3 clips left out, 33.3% of all; most often crops: no face (3 clips)"
    assert few_clips_refused(open_run(load("small", [f"data={data}", "quarantine_rate=0.4"]), keep=True)).passed
