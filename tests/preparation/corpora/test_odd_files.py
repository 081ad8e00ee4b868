"""One odd file of each kind among good clips, and a run's folder inside its corpus, through all steps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from common.folders import RunFolder
from preparation.clients.roles import load_clients, load_people
from preparation.corpora.manifest import load_manifest
from preparation.pipeline import prepare_folder
from preparation.quarantine import load_quarantine
from preparation.settings import FaceSettings, PreparationSettings, QualitySettings
from preparation.shards.store import read_shards
from preparation.shards.thumbnails import thumbnail_sheet
from tests.preparation.conftest import WriteClip, draw_clip

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)


def encode(frames: np.ndarray) -> np.ndarray:
    return np.zeros((len(frames), 4, frames.shape[1] // 8, frames.shape[2] // 8), dtype=np.float32)


def test_nothing_that_one_file_is_ends_the_preparation(tmp_path: Path, write_clip: WriteClip) -> None:
    root, run = tmp_path / "corpus", RunFolder(tmp_path / "run")
    anna = root / "trainval" / "anna"
    for number in (1, 2, 3):
        draw_clip(anna / f"{number:05d}.mp4")
        draw_clip(root / "pretrain" / "pia" / f"{number:05d}.mp4")
    (anna / "empty.mp4").touch()
    (anna / "folder.mp4").mkdir()
    os.mkfifo(anna / "pipe.mp4")
    (anna / "broken.mp4").symlink_to(anna / "nowhere.mp4")
    (anna / "loop.mp4").symlink_to(anna / "loop.mp4")
    (anna / "round").symlink_to(root / "trainval", target_is_directory=True)
    (anna / "junk.webm").write_bytes(os.urandom(4000))
    (anna / "text").write_text("no clip")
    (anna / "half.mp4").write_bytes((anna / "00001.mp4").read_bytes()[:3000])
    (anna / "00002.txt").write_bytes(b"\xff\xfe\0 no sidecar\0\0\1")
    (anna / "00003.truth.safetensors").write_bytes(b"no truth")
    for number, name in enumerate(
        (b"n" * 251, b"line\nbreak", b"\xff\xfe", "bjo\u0308rn".encode(), b"-rf * | \x1b[2J")
    ):
        write_clip(tmp_path / f"{number}.mp4", frames=5).rename(anna / os.fsdecode(name + b".mp4"))
    (root / "trainval" / "\u0130\u0307\u200b" / "x").mkdir(parents=True)

    report = prepare_folder("lrs3", root, run, SETTINGS, 1, encode)
    assert (report.crops.usable, report.shards.samples) == (5, 5)
    assert {sample.clip_id for sample in read_shards(run.client("anna"))} == {"anna/00001", "anna/00002"}
    rows = {Path(row.file).name: f"{row.step}: {row.reason}" for row in load_quarantine(run.quarantine)}
    expected = {
        "empty.mp4": "is empty",
        "folder.mp4": "it is an empty folder, not a clip",
        "pipe.mp4": "no ordinary file but a pipe",
        "broken.mp4": "cannot be read: No such file",
        "loop.mp4": "Too many levels",
        "junk.webm": "cannot be decoded",
        "text": "cannot be decoded",
        "half.mp4": "it is truncated",
        "00003.mp4": "crops: ",
        f"{'n' * 251}.mp4": "crops: ",
        "line\nbreak.mp4": "crops: ",
        "\\udcff\\udcfe.mp4": "not valid UTF-8",
        "bjo\u0308rn.mp4": "crops: ",
        "-rf * | \x1b[2J.mp4": "crops: ",
    }
    assert set(rows) == set(expected), {file: rows[file] for file in set(rows) - set(expected)}
    assert {file: reason for file, reason in rows.items() if expected[file] not in reason} == {}
    assert all(row.remedy for row in report.quarantine)
    placed = {clip for entry in load_clients(run.clients_table).values() for clip in entry.clips()}
    assert placed == {clip.clip_id for clip in load_manifest(run.manifest)}
    assert len(list(run.root.rglob("*.mp4"))) == 5 and thumbnail_sheet(run).any()


def test_a_run_inside_its_corpus_is_no_part_of_it(tmp_path: Path) -> None:
    """The second run must not take the first one's crops for clips of new people, one of whom might be public."""
    root = tmp_path / "corpus"
    for number in range(1, 4):
        draw_clip(root / "trainval" / "anna" / f"{number:05d}.mp4")
        draw_clip(root / "pretrain" / "pia" / f"{number:05d}.mp4")
    run = RunFolder(root / "trainval" / "run")
    first = prepare_folder("lrs3", root, run, SETTINGS, 1, encode)
    people = load_people(run)
    second = prepare_folder("lrs3", root, run, SETTINGS, 1, encode)
    assert (second.clips, second.crops.made, second.crops.kept) == (first.clips, 0, first.crops.made) == (6, 0, 6)
    assert load_people(run) == people and set(people) == {"anna", "pia"}
    assert [row.file for row in second.quarantine] == ["trainval/run"]
    # As a plain folder, and from a run elsewhere: still nothing of it.
    other = RunFolder(tmp_path / "elsewhere")
    third = prepare_folder("folder", root, other, SETTINGS, 1, encode)
    assert third.clips == 6 and {clip.speaker for clip in load_manifest(other.manifest)} == {
        "trainval-anna",
        "pretrain-pia",
    }
