"""What of a folder is opened: whatever may be a clip, by any name, and nothing that a run has made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.corpora.hdtf.cut import Sources
from preparation.corpora.manifest import scan
from preparation.corpora.walking import COMPANIONS, NAMED_COMPANIONS, check_apart, is_crop, is_run, tour, walk
from preparation.media.writing import encode
from preparation.settings import CorpusSettings
from tests.preparation.conftest import WriteClip, noise, tone


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(root: Path, *extensions: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in walk(root, extensions))


def test_every_ending_is_a_candidate_but_those_of_companions(tmp_path: Path) -> None:
    endings = ("webm", "m4v", "MTS", "m2ts", "ts", "wmv", "3gp", "ogv", "flv", "mxf", "vob", "insv", "rm", "asf", "dv")
    clips = [f"a.{ending}" for ending in endings]
    touch(tmp_path, *clips, "none at all", "a.mp4.part", "strange.xyz", "wörter.mp4")
    touch(tmp_path, *(f"b{ending}" for ending in COMPANIONS), *NAMED_COMPANIONS, ".DS_Store", "._a.mp4", ".hidden.mp4")
    touch(tmp_path, "THUMBS.DB", "Licence", "notes.TXT", "anna/readme.mp4")
    expected = [*clips, "none at all", "a.mp4.part", "strange.xyz", "wörter.mp4", "anna/readme.mp4"]
    assert names(tmp_path) == sorted(expected)
    assert names(tmp_path, ".webm", "TS") == ["a.ts", "a.webm"], "the setting narrows, with or without the dot"


def test_sound_is_its_clips_or_a_row(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.wav", "b.webm", "b.mp3", "c.flac", "c.txt", "d.m4a", "d.wav", "e/a.wav")
    assert names(tmp_path) == ["a.mp4", "b.webm", "c.flac", "d.m4a", "d.wav", "e/a.wav"]


@pytest.mark.parametrize("ending", ["webm", "m4v", "MTS", "ts", "flv", "wmv", "3gp", "ogv", "mxf", "vob", ""])
def test_what_ffmpeg_reads_is_read_by_any_name(tmp_path: Path, write_clip: WriteClip, ending: str) -> None:
    path = write_clip(tmp_path / "written.mp4", frames=5)
    path.rename(tmp_path / (f"clip.{ending}" if ending else "clip"))
    found = scan("folder", tmp_path)
    assert [clip.clip_id for clip in found.clips] == ["clip/clip"] and found.quarantine == []


def test_the_rest_are_rows(tmp_path: Path, write_clip: WriteClip) -> None:
    write_clip(tmp_path / "good.mp4", frames=5)
    touch(tmp_path, "junk.webm", "archive.zip", "no ending")
    with av.open(str(tmp_path / "voice.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        block = av.AudioFrame.from_ndarray(tone(1.0)[None], format="s16", layout="mono")
        block.sample_rate = 16000
        container.mux(stream.encode(block))
    (tmp_path / "folder.mp4").mkdir()
    found = scan("folder", tmp_path)
    assert [clip.path for clip in found.clips] == ["good.mp4"]
    rows = {row.file: row.reason for row in found.quarantine}
    assert set(rows) == {"junk.webm", "archive.zip", "no ending", "voice.wav", "folder.mp4"}
    assert "no video track" in rows["voice.wav"] and rows["folder.mp4"] == "it is an empty folder, not a clip"
    assert all(row.remedy for row in found.quarantine)


def as_run(folder: Path) -> Path:
    touch(folder, "manifest.parquet", "people.json", "clients/anna/crops/one.mp4", "clients/anna/crops/one.safetensors")
    return folder


def test_nothing_below_a_run_is_read_wherever_it_lies(tmp_path: Path, write_clip: WriteClip) -> None:
    root = tmp_path / "clips"
    write_clip(root / "anna" / "one.mp4", frames=5)
    as_run(root / "data" / "mine")
    (root / "linked").symlink_to(as_run(tmp_path / "elsewhere"), target_is_directory=True)
    touch(root / "cuts", ".cuts/a.json", "RD_Radio11_0.mp4")
    touch(root / "people", "people.json", "one.mkv")  # one such file may be somebody's own
    found = scan("folder", root)
    assert [clip.path for clip in found.clips] == ["anna/one.mp4"]
    rows = {row.file: row.reason for row in found.quarantine}
    assert set(rows) == {"data/mine", "linked", "cuts", "people/one.mkv"}
    assert "folder of a run" in rows["data/mine"] and "folder of a run" in rows["linked"] and "cut from" in rows["cuts"]
    with pytest.raises(PrivFedTalkError, match="is the folder of a run"):
        scan("folder", root / "data" / "mine")


def test_a_cut_folder_is_a_corpus_but_no_source_of_cuts(tmp_path: Path, write_clip: WriteClip) -> None:
    cuts = tmp_path / "videos" / "out"
    write_clip(cuts / "RD_Radio11_0.mp4", frames=5)
    (cuts / ".cuts").mkdir()
    assert [clip.clip_id for clip in scan("hdtf", cuts).clips] == ["RD_Radio11/RD_Radio11_0"]
    touch(tmp_path / "videos", "RD_Radio11.m4a", "RD_Radio11.webm", "Talk [abcdefghijk].m4a", "Talk [abcdefghijk].mp4")
    sources = Sources(tmp_path / "videos", CorpusSettings())
    assert sources._by_name["rd_radio11"].name == "RD_Radio11.webm" and "rd_radio11_0" not in sources._by_name
    assert sources._by_id["abcdefghijk"].name == "Talk [abcdefghijk].mp4"


def test_products_are_known_by_themselves(tmp_path: Path) -> None:
    """Crops that were copied with their descriptions, and videos that were copied alone."""
    encode(noise(5), None, tmp_path / "crop.mp4", made="a crop")
    encode(noise(5), None, tmp_path / "talk.mov", made="a generated clip")
    encode(noise(5), None, tmp_path / "described.mp4")
    touch(tmp_path, "described.safetensors", "own.safetensors")
    described = {"clip_id": "anna/described", "source_sha256": "0", "mouth_box": [0, 0, 1, 1]}
    (tmp_path / "described.json").write_text(json.dumps(described))
    encode(noise(5), None, tmp_path / "own.mp4")
    (tmp_path / "own.json").write_text('{"camera": "mine"}')
    found = scan("folder", tmp_path)
    assert [clip.path for clip in found.clips] == ["own.mp4"] and not is_crop(tmp_path / "own.mp4")
    assert {row.file: row.reason for row in found.quarantine} == {
        "crop.mp4": "it is a crop that a run has made, not a clip",
        "described.mp4": "it is a crop that a run has made, not a clip",
        "talk.mov": "it is a generated clip that a run has made, not a clip",
    }


def test_a_corpus_and_its_run_lie_apart(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for root in (tmp_path, tmp_path / "link"):
        with pytest.raises(PrivFedTalkError, match="both the corpus and the run's folder"):
            check_apart(root, RunFolder(tmp_path))
    check_apart(tmp_path, RunFolder(tmp_path / "run"))
    check_apart(tmp_path / "run" / "corpus", RunFolder(tmp_path / "run"))
    assert not is_run(tmp_path) and is_run(as_run(tmp_path / "run"))


def test_the_tour_follows_links_and_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.mp4", "elsewhere/two.mp4", "a/.hidden")
    root = tmp_path / "a"
    (root / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    assert [(str(folder.relative_to(root)), files) for folder, files in tour(root)] == [
        (".", ["one.mp4", "self"]), ("more", ["two.mp4"]), ("up", []),
    ]  # fmt: skip
    hidden = dict(tour(root, without=tmp_path / "elsewhere", hidden=True))
    assert hidden == {root: [".hidden", "one.mp4", "self"], root / "up": []}


def test_names_of_any_bytes_and_lengths_are_walked(tmp_path: Path, write_clip: WriteClip) -> None:
    folder = tmp_path / "pretrain" / "anna"
    for number, name in enumerate((b"n" * 251, b"line\nbreak", b"\xff\xfe")):
        write_clip(folder / f"{number}.mp4", frames=5).rename(folder / os.fsdecode(name + b".mp4"))
    for kind, root in (("folder", tmp_path), ("lrs3", tmp_path), ("hdtf", tmp_path)):
        found = scan(kind, root)
        assert sorted(len(clip.path) for clip in found.clips) == [28, 269], kind
        assert [row.reason for row in found.quarantine] == ["the file's name is not valid UTF-8"]
        assert all(row.file.isprintable() for row in found.quarantine)
