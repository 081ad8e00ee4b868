"""Broken pictures, dropped ones and combs."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from common.errors import CorruptFileError
from preparation.corpora.manifest import scan
from preparation.media import container as media_container
from preparation.media.track.decoding import first_picture_seconds
from preparation.media.video import open_video
from preparation.settings import MediaSettings
from tests.preparation.media.made_clips import Pixels, avi_of, chunks_of, damage, marked, write_clip

CODECS = {"libx264": "mp4", "mpeg4": "mp4", "mjpeg": "avi", "libvpx-vp9": "webm"}

OPTIONS = {"libx264": {"g": "12"}, "libvpx-vp9": {"g": "12", "deadline": "realtime", "cpu-used": "8"}}


def clip(path: Path, codec: str, frames: int = 60) -> Path:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return write_clip(path, marked(frames, 64, 64), codec, pixels, OPTIONS.get(codec))


@pytest.mark.parametrize(("codec", "suffix"), CODECS.items())
def test_a_few_damaged_pictures_are_left_out_and_counted(tmp_path: Path, codec: str, suffix: str) -> None:
    path = clip(tmp_path / f"a.{suffix}", codec)
    whole = open_video(path).all()
    video = open_video(damage(path, [20, 41]))
    assert not video.conversions.made()
    frames = video.all()
    assert 58 <= len(frames) <= 60 and frames.shape[1:] == whole.shape[1:]
    assert 1 <= video.conversions.lost_frames <= 4
    # What lies before keeps its place, and so does what follows the next key frame.
    np.testing.assert_array_equal(frames[:20], whole[:20])
    if codec in ("libx264", "mjpeg"):
        np.testing.assert_array_equal(frames[48:], whole[48:])


@pytest.mark.parametrize(("codec", "suffix"), CODECS.items())
def test_too_many_are_refused_with_a_remedy(tmp_path: Path, codec: str, suffix: str) -> None:
    path = damage(clip(tmp_path / f"a.{suffix}", codec), range(10, 60))
    with pytest.raises(CorruptFileError, match=rf"a\.{suffix}: \d+ of its 60 pictures cannot be decoded") as caught:
        open_video(path).all()
    assert "lost_share" in caught.value.remedy and "re-encode" in caught.value.remedy
    frames = open_video(path, MediaSettings(lost_share=1)).all()
    assert len(frames) >= 10


@pytest.mark.parametrize(("codec", "suffix"), CODECS.items())
def test_a_clip_with_good_headers_and_no_good_picture_is_a_row(tmp_path: Path, codec: str, suffix: str) -> None:
    clip(tmp_path / f"good.{suffix}", codec)
    damage(clip(tmp_path / f"bad.{suffix}", codec), range(60))
    found = scan("folder", tmp_path)
    rows = {row.file: row for row in found.quarantine}
    assert [one.name for one in found.clips] == ["good"]
    assert "can be decoded" in rows[f"bad.{suffix}"].reason or "cannot be decoded" in rows[f"bad.{suffix}"].reason
    assert "play it" in rows[f"bad.{suffix}"].remedy


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "libx264", {"bf": "3"}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),  # pictures never shown
        ("a.h264", "libx264", {"bf": "2"}),
        ("a.ts", "libx264", {"bf": "3", "g": "10"}),
        ("a.mpg", "mpeg1video", {"bf": "2"}),
        ("a.flv", "libx264", {"bf": "3"}),
        ("a.mov", "mjpeg", {}),
    ],
)
def test_whole_clips_lose_nothing(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    y, x = np.mgrid[:64, :64]
    drifting = [np.repeat(((x * 3 + y + 5 * t) % 256)[..., None], 3, 2).astype(np.uint8) for t in range(45)]
    path = write_clip(tmp_path / name, drifting, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", options)
    video = open_video(path, MediaSettings(lost_share=0))
    timeless = (name, codec) == ("a.avi", "libx264")  # FFmpeg guesses when its pictures are shown
    assert 0 <= len(video.all()) - 45 <= (2 if timeless else 0)
    assert video.facts.frames == 45 and not video.conversions.made()


def test_a_clip_without_its_first_pictures_begins_later(tmp_path: Path) -> None:
    """Its sound, too: both count from the first picture that can be decoded."""
    path = clip(tmp_path / "a.mp4", "libx264", 100)
    whole = open_video(path).all()
    video = open_video(damage(path, [0]), MediaSettings(lost_share=0.2))
    lost = video.conversions.lost_frames
    assert 1 < lost <= 12 and first_picture_seconds(path, MediaSettings()) == pytest.approx(lost / 25)
    frames = video.all()
    assert len(frames) == 100 - lost and video.conversions.lost_frames == lost
    np.testing.assert_array_equal(frames[12 - lost :], whole[12:])
    with pytest.raises(CorruptFileError, match=f"{lost} of its 100 pictures"):
        open_video(path, MediaSettings(lost_share=0.01))


def test_dropped_frames_of_an_avi_are_held(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", marked(20), "mpeg4", options={"bf": "0"})
    whole = open_video(path).all()
    head, pictures = chunks_of(path.read_bytes())
    shown, coded = [], []
    for number, picture in enumerate(pictures):
        dropped = {3: 1, 7: 3, 19: 4}.get(number, 0)
        coded += [picture, *[b""] * dropped]
        shown += [number] * (1 + dropped)
    path.write_bytes(avi_of(head, coded))
    video = open_video(path)
    assert video.facts.frames == 28 and video.facts.seconds == pytest.approx(28 / 25)
    np.testing.assert_array_equal(video.all(), whole[shown])
    assert not video.conversions.made()


def test_an_avi_that_was_cut_short_is_still_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", marked(60), "mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: (content.index(b"movi") + len(content)) // 2])
    with pytest.raises(CorruptFileError, match=r"a\.avi promises 60 frames and holds \d+: it is truncated"):
        open_video(path)


def combed(count: int) -> list[Pixels]:
    """A bar that moves between the two fields of every frame."""
    frames = []
    for number in range(count):
        picture = np.zeros((128, 128, 3), dtype=np.uint8)
        for field in (0, 1):
            left = 8 * (number % 12) + 4 * field
            picture[field::2, left : left + 24] = 220
        frames.append(picture)
    return frames


def combs(frames: Any) -> float:
    return float(np.mean([np.abs(np.diff(frame[..., 0].astype(float), axis=0)).mean() for frame in frames]))


def interlaced(path: Path, frames: list[Pixels]) -> Path:
    def prepare(stream: Any) -> None:
        stream.bit_rate = 4_000_000

    return write_clip(path, frames, "mpeg2video", options={"flags": "+ilme+ildct"}, prepare=prepare)


def raw(path: Path) -> list[Pixels]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_interlaced_pictures_lose_their_combs(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.mpg", combed(30))
    video = open_video(path)
    assert video.conversions.made() == {"deinterlaced": True}
    frames, pictures = video.all(), [np.asarray(picture) for picture in video.pictures()]
    assert len(frames) == 30 and combs(frames) < 0.5 * combs(raw(path))
    np.testing.assert_array_equal(frames, pictures)
    drawn = [part[20:100, 10:90].copy() for part in video.parts([(10, 20, 90, 100)] * 30)]
    np.testing.assert_array_equal(drawn, frames[:, 20:100, 10:90])


def test_pictures_that_become_interlaced_lose_their_combs_too(tmp_path: Path) -> None:
    still = write_clip(tmp_path / "a.ts", [combed(1)[0]] * 20, "mpeg2video").read_bytes()
    moving = interlaced(tmp_path / "b.ts", combed(20)).read_bytes()
    (tmp_path / "c.ts").write_bytes(still + moving)
    video = open_video(tmp_path / "c.ts")
    assert not video.conversions.deinterlaced
    frames = video.all()
    assert video.conversions.deinterlaced and len(frames) >= 38
    assert combs(frames[-18:]) < 0.5 * combs(raw(tmp_path / "b.ts")[-18:])


def test_interlaced_pixels_that_are_not_square_become_both(tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        stream.bit_rate, stream.codec_context.sample_aspect_ratio = 4_000_000, Fraction(4, 3)

    path = write_clip(tmp_path / "dv.mpg", combed(20), "mpeg2video", options={"flags": "+ilme+ildct"}, prepare=prepare)
    video = open_video(path)
    assert video.conversions.made() == {"deinterlaced": True, "squared": True}
    assert video.all().shape == (20, video.facts.height, video.facts.width, 3) and video.facts.width > 128


@pytest.mark.parametrize(
    "error",
    [AttributeError("no attribute"), ValueError("bad value"), TypeError("bad type"), MemoryError(), EOFError(),
     UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), RuntimeError("clock"), OverflowError(), IndexError()],
)  # fmt: skip
def test_whatever_a_library_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = write_clip(tmp_path / "odd.mp4", marked(3))

    def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr(media_container, "check_format", raising)
    with pytest.raises(CorruptFileError, match=r"odd\.mp4") as caught:
        open_video(path)
    assert caught.value.remedy


def test_a_file_that_vanishes_is_an_error_that_names_it(tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / "gone.mp4", marked(3)))
    shutil.move(tmp_path / "gone.mp4", tmp_path / "elsewhere.mp4")
    with pytest.raises(CorruptFileError, match=r"gone\.mp4 cannot be decoded: No such file"):
        video.all()
