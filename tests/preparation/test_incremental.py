"""A change redoes what depends on it and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.folders import RunFolder
from preparation.media.writing import encode as encode_clip
from preparation.pipeline import PreparationReport, prepare_clients, prepare_folder
from preparation.quarantine import load_quarantine
from preparation.settings import FaceSettings, PreparationSettings, QualitySettings
from tests.preparation.conftest import draw_clip

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)


def encode(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:, None, ::8, ::8, 0] / 255, 4, axis=1).astype(np.float32)


def prepare(root: Path, run: RunFolder, **changes: dict[str, object]) -> PreparationReport:
    groups = {name: getattr(SETTINGS, name).model_copy(update=values) for name, values in changes.items()}
    return prepare_folder("studio", root, run, SETTINGS.model_copy(update=groups), 1, encode, "blocks")


def written(run: RunFolder, pattern: str) -> dict[str, int]:
    return {str(path.relative_to(run.root)): path.stat().st_mtime_ns for path in run.root.glob(pattern)}


@pytest.mark.slow(minutes=0.1)
def test_five_more_clips_cost_five_crops_and_the_shards_of_their_clients(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(studio_corpus, run)
    crops, shards = written(run, "clients/*/crops/*"), written(run, "clients/*/shards/*")
    for client, count in (("c0000", 3), ("c0002", 2)):
        folder = studio_corpus / "trainval" / client
        for number in range(count):
            draw_clip(folder / f"{50 + number:05d}.mp4")
    report = prepare(studio_corpus, run)
    assert (report.crops.made, report.crops.kept, report.shards.samples) == (5, 18, 23)
    assert report.shards.kept_clients == 4
    after = written(run, "clients/*/crops/*")
    assert {name: after[name] for name in crops} == crops
    again = written(run, "clients/*/shards/*")
    touched = {name.split("/")[1] for name, time in again.items() if shards.get(name) != time}
    assert touched == {"c0000", "c0002"}


def test_each_setting_redoes_what_depends_on_it(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(studio_corpus, run)
    manifest, clients = run.manifest.read_bytes(), run.clients_table.read_bytes()
    size = prepare(studio_corpus, run, crops={"size": 64})
    assert (size.crops.made, size.shards.kept_clients) == (18, 0)
    threshold = prepare(studio_corpus, run, crops={"size": 64}, quality={"minimum_frames": 10})
    assert (threshold.crops.made, threshold.shards.kept_clients) == (18, 0)
    crops = written(run, "clients/*/crops/*")
    bytes_a_shard = prepare(
        studio_corpus, run, crops={"size": 64}, quality={"minimum_frames": 10}, shards={"max_bytes": 50_000}
    )
    assert (bytes_a_shard.crops.made, bytes_a_shard.shards.kept_clients) == (0, 0)
    assert written(run, "clients/*/crops/*") == crops
    identity = prepare(
        studio_corpus,
        run,
        crops={"size": 64},
        quality={"minimum_frames": 10},
        shards={"max_bytes": 50_000},
        identity={"same_client": 0.6},
    )
    assert (identity.crops.made, identity.shards.kept_clients) == (0, 6)
    assert (run.manifest.read_bytes(), run.clients_table.read_bytes()) == (manifest, clients)


@pytest.mark.slow(minutes=0.1)
def test_a_refused_clip_is_not_looked_at_again(studio_corpus: Path, tmp_path: Path) -> None:
    """The second and third time the corpus is gone: what would look at a clip would fail otherwise than before."""
    run, gone = RunFolder(tmp_path / "run"), tmp_path / "gone"
    still = studio_corpus / "trainval" / "c0001" / "00001.mp4"
    encode_clip([np.full((64, 80, 3), 90, np.uint8)] * 30, np.zeros(30 * 640, np.int16), still)
    prepare(studio_corpus, run)
    rows = load_quarantine(run.quarantine)
    assert [(row.file, row.step) for row in rows] == [("trainval/c0001/00001.mp4", "quality")]
    assert "silent" in rows[0].reason
    studio_corpus.rename(gone)
    for workers in (1, 2):
        again = prepare_clients(run, studio_corpus, SETTINGS, workers)
        assert (again.made, again.kept, again.quarantined) == (0, 17, 1)
        assert load_quarantine(run.quarantine) == rows

    gone.rename(studio_corpus)
    quality = SETTINGS.quality.model_copy(update={"minimum_loudness": 0.0, "minimum_sound_share": 0.0})
    lenient = prepare_clients(run, studio_corpus, SETTINGS.model_copy(update={"quality": quality}))
    assert (lenient.made, lenient.quarantined) == (18, 0)
    back = prepare_clients(run, studio_corpus, SETTINGS)
    assert (back.made, back.quarantined) == (17, 1)
    assert not (run.crops("c0001") / "00001.json").exists()


def test_a_refused_clip_that_was_mended_is_looked_at(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    path = studio_corpus / "trainval" / "c0001" / "00001.mp4"
    good = path.read_bytes()
    encode_clip([np.full((64, 80, 3), 90, np.uint8)] * 30, np.zeros(30 * 640, np.int16), path)
    prepare(studio_corpus, run)
    path.write_bytes(good)
    report = prepare(studio_corpus, run)
    assert (report.crops.made, report.crops.kept, report.quarantine) == (1, 17, [])
    assert not list(run.root.glob("clients/*/crops/refused/*"))
