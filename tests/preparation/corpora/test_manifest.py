from __future__ import annotations

import os
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.corpora.manifest import load_manifest, save_manifest, scan, sha256_of
from preparation.media.conversions import Conversions
from preparation.media.writing import encode
from tests.preparation.conftest import WriteClip
from tests.preparation.media.made_clips import marked
from tests.preparation.media.made_clips import write_clip as write_made


def test_all_real_clips_are_found(clips_dir: Path) -> None:
    found = scan("folder", clips_dir)
    assert found.quarantine == []
    clips = {clip.path: clip for clip in found.clips}
    assert len(clips) == 21
    portrait = clips["latentsync_demo1.mp4"]
    assert (portrait.width, portrait.height, portrait.frames, portrait.fps) == (1080, 1920, 250, 25)
    mpeg1 = clips["grid/bbaf2n.mpg"]
    assert (mpeg1.frames, mpeg1.audio_rate_hz, mpeg1.speaker) == (75, 44100, "grid")
    assert mpeg1.sha256 == "e468120039e208b5ff9b9e269f8dc96bbddc45701f8dddcf2c0ae21abc0df546"


def test_broken_files_become_rows(tmp_path: Path, write_clip: WriteClip) -> None:
    good = write_clip(tmp_path / "good one ü.mp4")
    write_clip(tmp_path / "really mp4.avi")
    content = good.read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "headless.mp4").write_bytes(content[200:])
    (tmp_path / "text.mp4").write_text("this is not a video")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "line\nbreak.mp4").write_bytes(content)
    found = scan("folder", tmp_path)
    assert {clip.path for clip in found.clips} == {"good one ü.mp4", "really mp4.avi", "line\nbreak.mp4"}
    rows = {row.file: row for row in found.quarantine}
    assert set(rows) == {"empty.mp4", "cut.mp4", "headless.mp4", "text.mp4", "loop.mp4"}
    assert rows["empty.mp4"].reason == "empty.mp4 is empty"
    assert "truncated" in rows["cut.mp4"].reason
    assert all(row.step == "manifest" and row.remedy for row in rows.values())


def test_sound_alone_and_pictures_alone(tmp_path: Path, write_clip: WriteClip) -> None:
    import av

    write_clip(tmp_path / "mute.mp4", sound=False)
    with av.open(str(tmp_path / "voice.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = scan("folder", tmp_path)
    assert [(clip.path, clip.audio_rate_hz) for clip in found.clips] == [("mute.mp4", 0)]
    assert [(row.file, row.reason) for row in found.quarantine] == [("voice.mp4", "voice.mp4 has no video track")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_a_row(tmp_path: Path, write_clip: WriteClip) -> None:
    write_clip(tmp_path / "secret.mp4").chmod(0)
    assert [row.file for row in scan("folder", tmp_path).quarantine] == ["secret.mp4"]


def test_name_that_is_not_unicode_is_a_row(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        Path(os.fsdecode(path)).touch()
    except OSError:
        pytest.skip("this file system takes unicode names only")
    (row,) = scan("folder", tmp_path).quarantine
    assert "UTF-8" in row.reason


def test_manifest_round_trip(tmp_path: Path, studio_corpus: Path) -> None:
    clips = scan("studio", studio_corpus).clips
    assert len(clips) == 18
    assert clips[0].clip_id == "p0000/00001"
    assert clips[0].name == "00001"
    assert clips[0].sha256 == sha256_of(studio_corpus / clips[0].path)
    path = tmp_path / "manifest.parquet"
    save_manifest(clips, path)
    assert load_manifest(path) == clips
    assert [entry.name for entry in tmp_path.iterdir() if "partial" in entry.name] == []


def test_errors_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="does not exist"):
        scan("folder", tmp_path / "nowhere")
    with pytest.raises(PrivFedTalkError, match="manifest step"):
        load_manifest(tmp_path / "manifest.parquet")
    pd.DataFrame({"clip": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(CorruptFileError, match="columns"):
        load_manifest(tmp_path / "other.parquet")


def test_one_frame_clip_is_listed(tmp_path: Path) -> None:
    encode(np.zeros((1, 64, 64, 3), dtype=np.uint8), None, tmp_path / "one.mp4")
    (clip,) = scan("folder", tmp_path).clips
    assert clip.frames == 1


def test_what_is_converted_stands_in_columns(tmp_path: Path) -> None:
    def sideways(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90, hflip=True)

    root = tmp_path / "corpus"
    root.mkdir()
    write_made(root / "a.mp4", marked(5))
    write_made(root / "b.mp4", marked(5), prepare=sideways)
    clips = scan("folder", root).clips
    assert [clip.conversions.made() for clip in clips] == [{}, {"turned": True, "mirrored": True, "squared": True}]
    assert (clips[1].width, clips[1].height) == (64, 128)
    save_manifest(clips, tmp_path / "manifest.parquet")
    assert load_manifest(tmp_path / "manifest.parquet") == clips
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert set(asdict(Conversions())) < set(table.columns) and table["mirrored"].tolist() == [False, True]


def test_a_manifest_without_those_columns_is_refused_by_name(tmp_path: Path) -> None:
    save_manifest([], tmp_path / "manifest.parquet")
    table = pd.read_parquet(tmp_path / "manifest.parquet").drop(columns="deinterlaced")
    table.to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(CorruptFileError, match=r"manifest\.parquet has the columns") as caught:
        load_manifest(tmp_path / "manifest.parquet")
    assert "scan the corpus again" in caught.value.remedy
