"""What one reference leaves in its folder, and what of it reaches results.json: the still, which needs no model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.folders import RunFolder
from common.weights import registry as weights
from evaluation.measuring import runs
from evaluation.metrics.clip import EvaluationClip
from evaluation.report.gather import gather_results
from evaluation.settings import EvaluationSettings
from preparation.faces.alignment import align
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.settings import TrainingSettings


def drawn_clips(run: RunFolder, settings: EvaluationSettings, required: bool) -> list[EvaluationClip]:
    """Two clips of noise: nothing here is a face, so what needs one is absent, and the rest is measured."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 24, 64, 64, 3), dtype=np.uint8)
    landmarks = rng.uniform(20, 44, (24, 68, 2)).astype(np.float32)
    landmarks[:, [36, 39]], landmarks[:, [42, 45]] = (22, 25), (42, 25)
    return [
        EvaluationClip(
            f"c{index}/0",
            f"c{index}",
            "client",
            frames[index],
            landmarks,
            rng.uniform(0, 0.4, 24).astype(np.float32),
            rng.normal(0, 1000, 24 * 640).astype(np.int16),
            np.zeros((24, 1, 1), np.float32),
            frames[1 - index, 0],
        )
        for index in range(2)
    ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    OpeningRuler(width=8).save(folder.model("rulers") / "opening")
    IdentityRuler(width=8, embedding=8).save(folder.model("rulers") / "identity")
    monkeypatch.setattr(runs, "read_evaluation_clips", drawn_clips)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))  # no pretrained network anywhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return folder


def test_what_was_measured_and_what_is_missing_reach_the_results(run: RunFolder) -> None:
    settings = EvaluationSettings(instruments=("flow", "syncnet"), videos_per_client=0)
    runs.measure(run, "copy_reference", settings, TrainingSettings(), 0)
    rows = pd.read_parquet(run.evaluation("copy_reference") / "metrics.parquet")
    assert {"tof", "psnr", "identity"} <= set(rows["metric"]) and "face_identity" not in set(rows["metric"])
    left = json.loads((run.evaluation("copy_reference") / "instruments.json").read_text())
    assert left["together"] == {}
    results = gather_results(
        run,
        [],
        ["copy_reference"],
        seconds={},
        peak_memory_gb=1.0,
        corpus={},
        face_tracker="",
        seed=0,
        required=False,
    )
    assert results["methods"]["copy_reference"]["tof"] == pytest.approx(rows[rows["metric"] == "tof"]["value"].mean())
    assert results["methods"]["copy_reference"]["lse_c"] is None and results["methods"]["copy_reference"]["kid"] is None
    missing = {name: one for one in results["missing"] for name in one["metrics"]}
    assert (
        "weights fetch syncnet" in missing["LSE-C"]["remedy"]
        and missing["LSE-C"]["reason"] == "syncnet_v2.model is not here"
    )
    assert missing["KID"]["reason"] == "not asked for"
    assert {"Face found", "LMD", "Face identity"} <= set(missing) and "tOF" not in missing


def test_faces_are_compared_as_they_lie(weights_dir: Path, clips_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real clip against a reference of its own person and of another's, through tracker and embedder."""
    from evaluation.measuring.protocol import measure_clip
    from evaluation.metrics.identity import open_embedder
    from evaluation.metrics.interface import Networks
    from evaluation.metrics.networks.landmarker import open_track

    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    paths = [clips_dir / name for name in ("retalking_face_3.mp4", "hdtf_WDA_AlexandriaOcasioCortez_000.mp4",
                                           "retalking_face_2.mp4")]  # fmt: skip
    found = {}
    with open_track() as (track, _):
        assert track is not None
        frames = np.stack(list(open_video(paths[0]).span(0, 0.24)))
        landmarks, seen = track(frames)
        assert all(seen)
        crops = np.stack([align(frame, points)[0] for frame, points in zip(frames, landmarks, strict=True)])
        placed = np.stack([align(frame, points)[1] for frame, points in zip(frames, landmarks, strict=True)])
        for path in paths[1:]:
            other = next(iter(open_video(path).span(0, 0.04)))
            reference = align(other, track(other[None])[0][0])[0]
            clip = EvaluationClip("a/0", "a", "client", crops, placed, None, open_sound(paths[0]).in_step()[: 6 * 640],
                                  np.zeros((6, 1, 1), np.float32), reference)  # fmt: skip
            networks = Networks(
                OpeningRuler(width=8), IdentityRuler(width=8, embedding=8), track, faces=open_embedder()
            )
            found[path.name] = measure_clip(clip, crops, networks, tracked_frames=6)["face_identity"]
    same, stranger = found[paths[1].name], found[paths[2].name]
    assert same > 0.6 and stranger < 0.35, (same, stranger)


def test_the_embedder_that_is_asked_for_is_the_one_that_is_missing(run: RunFolder) -> None:
    settings = EvaluationSettings(videos_per_client=0, face_embedder="arcface_r50")
    runs.measure(run, "copy_reference", settings, TrainingSettings(), 0)
    told = json.loads((run.evaluation("copy_reference") / "instruments.json").read_text())["missing"]
    missing = {name: one for one in told for name in one["metrics"]}
    assert missing["Face identity (InsightFace)"]["remedy"] == "privfedtalk weights fetch face_landmarker arcface_r50"
    assert "Face identity" not in missing
