from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import CorruptFileError
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import fit_audio, open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from tests.preparation.conftest import WriteClip


def numbered(count: int) -> np.ndarray:
    """Frames whose brightness is their number: uint8 [T, 32, 32, 3]."""
    return np.broadcast_to((8 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, 32, 32, 3))


def numbers(frames: np.ndarray) -> list[int]:
    return np.round(frames.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def test_round_trip_keeps_pictures(tmp_path: Path, write_clip: WriteClip) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=12)
    again = open_video(path).all()
    assert again.shape == (12, 64, 80, 3)
    assert again.flags.c_contiguous
    encode(again, None, tmp_path / "b.mp4", crf=10)
    error = np.mean((open_video(tmp_path / "b.mp4").all().astype(float) - again) ** 2)
    assert 10 * np.log10(255**2 / error) > 33


def test_same_input_same_bytes(tmp_path: Path, write_clip: WriteClip) -> None:
    assert write_clip(tmp_path / "a.mp4", seed=1).read_bytes() == write_clip(tmp_path / "b.mp4", seed=1).read_bytes()


@pytest.mark.parametrize(("fps", "expected"), [(50, [0, 2, 4, 6, 8]), (25, list(range(10))), (5, None)])
def test_any_rate_becomes_25(tmp_path: Path, fps: int, expected: list[int] | None) -> None:
    encode(numbered(10), None, tmp_path / "a.mp4", crf=0, fps=fps)
    shown = numbers(open_video(tmp_path / "a.mp4").all())
    if expected is None:
        # Five frames of 25 fps for each, the first shown from its own time on.
        assert len(shown) == 48 and shown == sorted(shown) and set(shown) == set(range(10))
    else:
        assert shown == expected


def test_60_fps_keeps_time(tmp_path: Path) -> None:
    encode(numbered(30), None, tmp_path / "a.mp4", crf=0, fps=60)
    shown = numbers(open_video(tmp_path / "a.mp4").all())
    assert shown == [round(frame * 60 / 25 + 1e-6) for frame in range(len(shown))]
    assert len(shown) == 13


def test_variable_rate_follows_timestamps(tmp_path: Path) -> None:
    times_ms = [0, 40, 80, 240, 280]
    path = tmp_path / "vfr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0", "bf": "0"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, milliseconds in zip(numbered(5), times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert numbers(open_video(path).all()) == [0, 1, 2, 2, 3, 3, 3, 4]


def test_rotated_clips_stand_upright(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 96, 3), dtype=np.uint8)
    frames[:, :20, :30] = 255  # white at the top left
    path = tmp_path / "phone.mp4"
    encode(frames, None, path)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(content)
    turned = next(open_video(path).frames())
    assert turned.shape == (96, 64, 3)
    assert turned[:30, -20:].mean() > 240 > 20 > turned[:30, :40].mean()


def test_sound_and_picture_stay_together(tmp_path: Path) -> None:
    frames = np.zeros((50, 32, 32, 3), dtype=np.uint8)
    frames[20] = 255
    click = np.zeros(50 * 640, dtype=np.int16)
    click[20 * 640 : 20 * 640 + 40] = 20000
    encode(frames, click, tmp_path / "a.mp4")
    assert int(open_video(tmp_path / "a.mp4").all().mean(axis=(1, 2, 3)).argmax()) == 20
    sound = open_sound(tmp_path / "a.mp4").in_step()
    assert abs(int(np.abs(sound.astype(int)).argmax()) - 20 * 640) < 0.005 * AUDIO_RATE_HZ


def test_real_clips_have_sound_for_every_frame(clips_dir: Path) -> None:
    for name, frames in (("grid/bbaf2n.mpg", 75), ("lrs3/pretrain/C8zY0oAdQrs/00018.mp4", 393)):
        assert abs(len(open_sound(clips_dir / name).in_step()) / 640 - frames) < 2


def test_real_rates(clips_dir: Path) -> None:
    path = clips_dir / "retalking_face_4.mp4"  # 30 fps, 199 frames
    assert open_video(path).facts.fps == 30
    assert sum(1 for _ in open_video(path).frames()) == round(199 / 30 * 25)


def test_frames_are_streamed(clips_dir: Path) -> None:
    stream = open_video(clips_dir / "latentsync_demo2.mp4").frames()
    assert len(list(islice(stream, 2))) == 2
    assert isinstance(stream, Generator)
    stream.close()


def test_clip_without_sound_is_empty_sound(tmp_path: Path, write_clip: WriteClip) -> None:
    assert open_sound(write_clip(tmp_path / "a.mp4", sound=False)).in_step().shape == (0,)


def test_fit_audio_cuts_and_pads() -> None:
    sound = np.arange(1000, dtype=np.int16)
    assert fit_audio(sound, 1).tolist() == list(range(640))
    padded = fit_audio(sound, 2)
    assert len(padded) == 1280 and padded[999] == 999 and not padded[1000:].any()


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield np.zeros((32, 32, 3), dtype=np.uint8)
        raise CorruptFileError("the source broke off", remedy="none")

    with pytest.raises(CorruptFileError):
        encode(broken(), None, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(CorruptFileError, match=r"noise\.mp4"):
        next(open_video(tmp_path / "noise.mp4").frames())


@pytest.mark.parametrize("size", [64, 96, 144])
def test_the_same_pictures_give_the_same_bytes(tmp_path: Path, size: int) -> None:
    """Also with other things in memory; x264 with AVX-512 took some of them into account."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (30, size // 8, size // 8, 3), dtype=np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2)
    made = set()
    for turn in range(10):
        litter = [rng.bytes(int(rng.integers(1000, 200_000))) for _ in range(5)]
        encode(frames, None, tmp_path / f"{turn}.mp4")
        made.add((tmp_path / f"{turn}.mp4").read_bytes())
        del litter
    assert len(made) == 1
