"""Which tracks are read, under which names, and what is bounded."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import CorruptFileError
from preparation.corpora.manifest import scan
from preparation.media.container import DEFAULT_LIMITS, opened, sound_track, video_track
from preparation.media.video import open_video
from preparation.media.writing import encode
from tests.preparation.media.made_clips import marked, write_clip


def renamed(path: Path, codec: bytes, other: bytes) -> Path:
    """The file with another four-character code for the first track of a codec, one that FFmpeg does not know."""
    content = path.read_bytes()
    assert codec in content
    path.write_bytes(content.replace(codec, other, 1))
    return path


def tracks(path: Path, codecs: list[str], default: int | None = None) -> Path:
    """Picture tracks of one grey each, 40, 80, 120 …; `default` is the one that is to be shown."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, codec in enumerate(codecs):
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
            stream.disposition = int(av.stream.Disposition.default) if number == default else 0
            streams.append(stream)
        for time in range(5):
            for number, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 + 40 * number, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def test_sound_without_a_decoder_does_not_cost_the_pictures(tmp_path: Path) -> None:
    """As spatial audio of telephones, whose other track is AAC; here it is the only one."""
    path = renamed(write_clip(tmp_path / "phone.mov", marked(4), sound="pcm_s16le"), b"sowt", b"apac")
    video = open_video(path)
    assert len(video.all()) == 4 and video.facts.audio_rate_hz == 0
    with (
        opened(path, DEFAULT_LIMITS) as container,
        pytest.raises(CorruptFileError, match=r"phone\.mov has no sound track that can be decoded \(apac\)"),
    ):
        sound_track(container, path)


def test_a_decodable_sound_track_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "phone.mov"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 64, "yuv420p"
        sounds = [container.add_stream(codec, rate=48_000, layout="mono") for codec in ("pcm_s16le", "pcm_s16be")]
        for audio in sounds:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 48_000, 0, Fraction(1, 48_000)
            container.mux(audio.encode(block))
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    assert open_video(path).conversions.sound_track == 0
    made = open_video(renamed(path, b"sowt", b"apac"))
    assert made.facts.audio_rate_hz == 48_000 and made.conversions.made() == {"sound_track": 1}


def test_an_unknown_picture_codec_is_a_row_that_names_it(tmp_path: Path) -> None:
    write_clip(tmp_path / "good.mov", marked(4))
    renamed(write_clip(tmp_path / "odd.mov", marked(4)), b"avc1", b"xq7z")
    found = scan("folder", tmp_path)
    assert [clip.name for clip in found.clips] == ["good"]
    (row,) = found.quarantine
    assert row.file == "odd.mov" and "no video track that can be decoded (xq7z)" in row.reason
    assert "re-encode" in row.remedy


def test_the_decodable_picture_track_is_taken(tmp_path: Path) -> None:
    path = renamed(tracks(tmp_path / "two.mov", ["libx264", "libx264"]), b"avc1", b"xq7z")
    video = open_video(path)
    assert abs(int(video.all().mean()) - 80) < 3 and video.conversions.made() == {"picture_track": 1}


@pytest.mark.parametrize(("default", "taken"), [(None, 0), (0, 0), (1, 1)])
def test_the_default_picture_track_is_taken(tmp_path: Path, default: int | None, taken: int) -> None:
    video = open_video(tracks(tmp_path / "two.mkv", ["libx264", "libx264"], default))
    assert abs(int(video.all().mean()) - (40 + 40 * taken)) < 3 and video.conversions.picture_track == taken


def test_a_cover_is_no_track(tmp_path: Path) -> None:
    path = tracks(tmp_path / "two.mkv", ["libx264", "libx264"])
    with opened(path, DEFAULT_LIMITS) as container:
        container.streams.video[0].disposition = int(av.stream.Disposition.attached_pic)
        assert video_track(container, path).stream.index == 1


@pytest.mark.parametrize("name", ["2026-11-29T12:30:00.mp4", "file:a.mp4", "http:x.mp4", "concat:a|b.mp4", "-i.mp4",
                                  "a%03d.mp4", "Üben #1 \U0001f600.mp4", "pipe:0.mp4", "crypto:x.mp4"])  # fmt: skip
def test_any_name_is_a_file_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    encode(np.stack(marked(4)), np.zeros(2560, np.int16), Path(name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(open_video(Path(name)).all()) == 4
    (clip,) = scan("folder", Path()).clips
    assert clip.path == name


def test_many_streams_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(120)]
        for stream in streams:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 8000, 0, Fraction(1, 8000)
            container.mux(stream.encode(block))
    with pytest.raises(CorruptFileError, match=r"many\.mkv"):
        open_video(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "pipe.mp4", tmp_path / "folder.mp4", Path("/dev/zero")):
        with pytest.raises(CorruptFileError, match=f"{path.name} is no file"):
            open_video(path)
