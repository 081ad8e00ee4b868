"""The catalogue is whole, and a line of it is all that a new metric or method takes to arrive everywhere."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from evaluation import catalogue
from evaluation.catalogue import GATES, METRICS, REFERENCES, entries, metric
from evaluation.measuring import models
from evaluation.measuring.instruments import openable
from evaluation.measuring.protocol import measure_clip
from evaluation.metrics.arrays import Frames
from evaluation.metrics.interface import Networks
from preparation.faces.landmarks import Landmarks
from tests.evaluation.measuring.test_protocol import DarkRows, make_clip
from training.federation.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("common", "preparation", "training", "evaluation", "assets", "pipelines")

SHARPNESS = '''"""How sharp a generated clip is."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.arrays import Frames
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.interface import Networks


def sharpness(clip: EvaluationClip, frames: Frames, networks: Networks) -> float:
    """Mean absolute difference of neighbouring pixels of frames uint8 [T, H, W, 3]."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=2)).mean())
'''
METRIC_LINE = """    Metric("sharpness", "Sharpness", "levels", 1, "higher", Instrument("edges", sharpness),
           ("headline", "unseen", "summary", "card"), "mean difference of neighbouring pixels",
           ("noise",), compared=True),
"""
FEDMEDIAN = '''"""The coordinate-wise median of the updates."""

from __future__ import annotations

import numpy as np

from training.federation.methods.base import Method, Released, ServerRule, State, Theta


class MedianServer(ServerRule):
    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        updates = np.stack([update / weight for weight, update in released.each])
        return (theta + np.median(updates, axis=0)).astype(np.float32), state


class FedMedian(Method):
    """FedAvg's clients under the median."""

    label = "FedMedian"
    description = "FedAvg whose server takes the median of the updates"
    server_rule = MedianServer
    averages = False
'''
METHOD_LINE = '    "fedmedian": FedMedian(),\n'


def insert(path: Path, before: str, line: str, module: str, name: str) -> None:
    """Add a line before the first place of `before`, and the import of what it names."""
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    imported = f"from __future__ import annotations\n\nfrom {module} import {name}\n"
    text = text.replace(before, line + before).replace("from __future__ import annotations\n", imported, 1)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `added_entries` finds in a copy of the tree that has one more metric and one more method."""
    tree = tmp_path_factory.mktemp("tree")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tree / floor, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "tests").mkdir()
    (tree / "tests/__init__.py").touch()  # or another package of this name would be found before it
    for path in (ROOT / "tests").iterdir():
        (tree / "tests" / path.name).symlink_to(path)
    (tree / "evaluation/metrics/sharpness.py").write_text(SHARPNESS, encoding="utf-8")
    last_metric = """    Metric("identity_drift","""
    insert(tree / "evaluation/catalogue.py", last_metric, METRIC_LINE, "evaluation.metrics.sharpness", "sharpness")
    (tree / "training/federation/methods/fedmedian.py").write_text(FEDMEDIAN, encoding="utf-8")
    registry = tree / "training/federation/methods/__init__.py"
    insert(registry, '    "centralized":', METHOD_LINE, "training.federation.methods.fedmedian", "FedMedian")
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.added_entries", str(tree / "run")],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_new_metric_is_measured_and_recorded(arrived: dict[str, Any]) -> None:
    assert arrived["rows"]["sharpness"] > 0 and arrived["rows"]["psnr"] > 0
    methods = arrived["results"]["methods"]
    assert methods["fedavg"]["sharpness"] == pytest.approx(8.5) and methods["noise"]["sharpness"] == pytest.approx(4.5)
    assert len(methods["fedmedian"]["sharpness_ci"]) == 2
    assert arrived["results"]["methods_unseen"]["fedavg"]["sharpness"] == pytest.approx(5.5)


def test_a_new_metric_is_tested_and_gated(arrived: dict[str, Any]) -> None:
    compared = {(one["metric"], one["method"], one["baseline"]) for one in arrived["results"]["comparisons"]}
    assert ("sharpness", "privfedtalk", "fedavg") in compared
    gated = [row for row in arrived["results"]["gates"] if row["metric"] == "sharpness"]
    assert {row["gate"] for row in gated} == {"noise"} and all(row["pass"] for row in gated)
    assert len(gated) == 4  # of the frozen backbone and three methods


def test_a_new_method_is_compared_and_gated(arrived: dict[str, Any]) -> None:
    results = arrived["results"]
    assert results["methods"]["fedmedian"]["mouth_psnr"] == results["methods"]["fedavg"]["mouth_psnr"]
    pairs = {(one["method"], one["baseline"]) for one in results["comparisons"]}
    assert {("fedmedian", "backbone"), ("fedavg", "fedmedian")} <= pairs
    assert {row["gate"] for row in results["gates"] if row["method"] == "fedmedian"} == {"noise", "copy_reference"}


def test_both_are_on_the_page(arrived: dict[str, Any]) -> None:
    for said in (
        "Sharpness ↑",
        "mean difference of neighbouring pixels",
        "FedMedian",
        "whose server takes the median of the updates",
    ):
        assert said in arrived["page"], said


@pytest.mark.parametrize("kind", [".csv", ".md", ".tex"])
def test_both_are_in_the_papers_tables(arrived: dict[str, Any], kind: str) -> None:
    table = arrived["tables"][kind]
    (row,) = (line for line in table.splitlines() if "FedMedian" in line)
    assert "Sharpness" in table and "8.5" in row
    before, after = (table.index(name) for name in ("FedAvg", "Frozen backbone"))
    assert before < table.index("FedMedian") < after  # where its line stands


def test_both_are_in_the_nights(arrived: dict[str, Any]) -> None:
    assert arrived["nightly"] == ["sharpness ↑", "", "", "FedMedian"]


def test_both_are_in_what_a_command_says(arrived: dict[str, Any]) -> None:
    assert "sharpness" in arrived["summary"]
    (row,) = (line for line in arrived["summary"].splitlines() if line.strip().startswith("fedmedian"))
    assert row.split()[-1] == "8.5"
    assert arrived["document"]["methods"]["fedmedian"]["sharpness"] == pytest.approx(8.5)


def test_both_are_on_a_card(arrived: dict[str, Any]) -> None:
    assert "| Sharpness, levels | 5.5 |" in arrived["card"]


def test_a_new_method_is_known_to_settings_shell_and_partitions(arrived: dict[str, Any]) -> None:
    assert arrived["settings"] == ["fedmedian"] and arrived["noise"] == "none"
    assert "fedmedian" in arrived["completed"]
    assert all("fedmedian" in keys for keys in arrived["partitions"])


def test_every_line_is_whole() -> None:
    keys = [one.key for one in METRICS]
    assert len(set(keys)) == len(keys)
    assert len({one.label for one in METRICS}) == len(METRICS)
    tables = {table for one in METRICS for table in one.tables}
    assert tables == set(get_args(catalogue.Table))
    for one in METRICS:
        assert one.beside in {"", *keys} - {one.key}
        assert one.explanation or not set(one.tables), f"{one.key} is shown without an explanation"
        assert one.sign or not (one.gates or one.compared), f"{one.key} has no better side to be tested on"
        assert not (one.together and one.compared), f"{one.key} is one figure of all clips: nothing to test"
        assert ("still, by sound" in one.gates) + ("still" in one.gates) < 2
    assert set(catalogue.COMPARED_FIRST) <= set(catalogue.compared())
    assert set(catalogue.BASIC) <= {one.key for one in catalogue.gated("noise") if one.better == "higher"}


def test_files_and_pages_keep_their_order() -> None:
    """Readers compare results.json, findings and tables of two versions line by line."""

    def in_order(keys: list[str], found: Iterable[str]) -> bool:
        return keys == [key for key in found if key in keys]

    assert in_order(
        ["validation_loss", "mouth_psnr", "mouth_ssim", "opening_error", "lip_correlation", "psnr", "identity",
         "face_identity", "arcface_identity", "tof", "light_asd_contrast", "lse_d", "lse_c", "lpips_alex", "lpips_vgg"],
        catalogue.compared(),
    )  # fmt: skip
    assert in_order(
        ["psnr", "ssim", "mouth_psnr", "lip_correlation", "identity", "mouth_ssim", "face_identity", "arcface_identity",
         "light_asd_contrast", "lse_c", "opening_error", "validation_loss", "lip_landmark_distance", "tof", "lse_d",
         "lpips_alex", "lpips_vgg", "kid", "fid", "fvd"],
        [one.key for one in catalogue.gated("noise")],
    )  # fmt: skip
    assert in_order(
        ["lip_correlation", "opening_error", "mouth_psnr", "psnr", "identity", "validation_loss"],
        [one.key for one in catalogue.shown_in("summary")],
    )
    assert in_order(
        ["privfedtalk", "fedavg", "fedprox", "scaffold", "fedadam", "centralized", "local", "backbone",
         "copy_reference", "vae_ceiling", "noise"],
        catalogue.models_in("main"),
    )  # fmt: skip
    assert in_order(
        ["privfedtalk", "adapters_only", "dp_only", "tdc_only", "isfa_only", "backbone", "copy_reference",
         "vae_ceiling", "noise"],
        catalogue.models_in("ablations"),
    )  # fmt: skip


def test_a_metric_of_another_version_is_named() -> None:
    with pytest.raises(PrivFedTalkError, match="'vmaf' is no metric of this version"):
        metric("vmaf")


def test_every_figure_of_a_clip_has_a_line() -> None:
    def tracker(frames: Frames) -> tuple[Landmarks, list[bool]]:
        return make_clip(0, "c").landmarks[: len(frames)], [True] * len(frames)

    class Faces:
        metric = "face_identity"

        def embed_aligned(self, frames: Frames, landmarks: Landmarks) -> np.ndarray:
            return np.ones((len(frames), 2), np.float32)

    clip = make_clip(0, "c")
    networks = Networks(DarkRows(), DarkRows(), tracker, Faces())
    values = measure_clip(clip, clip.frames, networks, tracked_frames=10)
    assert set(values) <= {one.key for one in METRICS}
    by_clip = {one.key for one in METRICS if one.instrument.measure is not None}
    assert by_clip <= set(values), "an instrument does not measure what the catalogue says of it"


def test_every_method_reference_and_gate_has_a_name_and_a_description() -> None:
    assert set(models.REFERENCES) == {one.key for one in REFERENCES}
    shown = [entries()[key] for key in (*METHODS, *models.REFERENCES)]
    assert all(one.label and one.description for one in shown)
    assert len({one.label for one in entries().values()}) == len(entries())
    assert {entries()[key].role for key in GATES} == {"gate"}
    assert entries()["centralized"].role == "pooled" and entries()["local"].role == "local"


def test_the_document_names_every_instrument_that_can_be_asked_for() -> None:
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in openable())


def test_a_label_in_a_sentence_keeps_the_capitals_of_names() -> None:
    names = ("lip_correlation", "mouth_psnr", "ssim", "tof", "lse_c", "light_asd_contrast")
    assert [metric(name).in_sentence for name in names] == [
        "lip correlation", "mouth PSNR", "SSIM", "tOF", "LSE-C", "Light-ASD contrast",
    ]  # fmt: skip
    assert metric("mouth_psnr").axis == "mouth PSNR, dB" and metric("ssim").axis == "SSIM"


def texts(path: Path) -> Iterator[str]:
    """Every text of a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


NOT_OF_METRICS = {
    "evaluation/catalogue.py",
    "evaluation/tables/published.py",  # what others print, quoted
    "assets/training/backbone.py",  # the loss of pretraining, on public people
}


def test_nothing_else_names_a_metric_a_method_or_a_gate() -> None:
    """Labels stand in the catalogue and in the methods' own files."""
    metrics = {
        text
        for one in METRICS
        for text in (one.label, one.heading, one.axis, one.in_sentence, f"{one.label}, {one.unit}")
    }
    labels = metrics | {one.label for one in entries().values()}
    labels -= {one.key for one in METRICS} | {"PrivFedTalk"}  # the project's name too
    found = [
        f"{name}: {text}"
        for floor in (*FLOORS, "benchmarks")
        for path in sorted((ROOT / floor).rglob("*.py"))
        if (name := path.relative_to(ROOT).as_posix()) not in NOT_OF_METRICS
        and not name.startswith("training/federation/methods/")
        for text in texts(path)
        if text in labels
    ]
    assert not found


def test_tables_of_real_people_show_what_knows_real_faces() -> None:
    """Of rendered people alone a true opening is known, and of them alone the run's rulers learnt enough."""
    real = {"a": {"identity": 0.9, "face_identity": 0.8, "tracked_correlation": 0.4}}
    rendered = {"a": {"lip_correlation": 0.5, **real["a"]}}

    def keys(methods: dict[str, dict[str, float]], *tables: catalogue.Table) -> list[str]:
        return [one.key for one in catalogue.columns_for(methods, *tables)]

    for table in ("headline", "unseen", "summary", "card"):
        assert {"identity", "lip_correlation"} <= set(keys(rendered, table))
        assert not {"face_identity", "tracked_correlation"} & set(keys(rendered, table))
        assert {"face_identity", "tracked_correlation"} <= set(keys(real, table))
        assert not {"identity", "lip_correlation"} & set(keys(real, table))
        assert "identity" in keys({"a": {"identity": 0.9}}, table)
    assert "face_identity" in keys(rendered, "further") and "face_identity" in keys(real, "further")
