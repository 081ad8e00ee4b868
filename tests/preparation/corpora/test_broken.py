"""Every kind of file that a folder of clips may hold, through the whole preparation with MediaPipe's landmarks."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from common.folders import RunFolder
from common.weights import registry as weights
from preparation.corpora.manifest import scan
from preparation.crops.crop import load_crop
from preparation.media.sound import open_sound
from preparation.media.track.frames import Frame
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.pipeline import PreparationReport, prepare_folder
from preparation.settings import FaceSettings, PreparationSettings, QualitySettings
from tests.preparation.conftest import WriteClip

SETTINGS = PreparationSettings(
    faces=FaceSettings(every=5), quality=QualitySettings(minimum_frames=10, minimum_sharpness=0)
)
FRAMES = 30


def encoder(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:, None, ::8, ::8, 0] / 255, 4, axis=1).astype(np.float32)


def mux(
    path: Path,
    frames: list[Frame],
    codec: str = "libx264",
    times: list[float] | None = None,
    fps: int = 25,
    sound: np.ndarray | None = None,
    rate: int = 16_000,
    layout: str = "mono",
) -> Path:
    """Any codec, frame times (seconds), sample rate and channels, as the containers of the world have them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio_codec = "mp2" if path.suffix == ".mpg" else "flac" if path.suffix == ".mkv" else "aac"
        audio = container.add_stream(audio_codec, rate=rate, layout=layout) if sound is not None else None
        base = Fraction(1, 1000) if times else Fraction(1, fps)
        video.codec_context.time_base = base
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(times[index] * 1000) if times else index, base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            channels = len(audio.layout.channels)
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(np.repeat(sound, channels)[None]), format="s16", layout=layout
            )
            block.sample_rate, block.pts = rate, 0
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def lit(pictures: list[Frame], more: int) -> list[Frame]:
    """The same person in a little more light: another recording, so that the clip is no twin of the others."""
    return [np.clip(picture.astype(np.int16) + more, 0, 255).astype(np.uint8) for picture in pictures]


def voice(seconds: float, rate: int = 16_000, hertz: float = 220) -> np.ndarray:
    return (6000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


@pytest.fixture(scope="module")
def face(clips_dir: Path) -> list[Frame]:
    """A real person, 360 x 288."""
    return list(islice(open_video(clips_dir / "grid/bbaf2n.mpg").frames(), FRAMES))


@pytest.fixture(scope="module")
def other(clips_dir: Path) -> list[Frame]:
    """Another one, of the same size."""
    return list(islice(open_video(clips_dir / "grid/sbwe5n.mpg").frames(), FRAMES))


@pytest.fixture
def weighted(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))


def prepare(root: Path, out: Path) -> tuple[PreparationReport, dict[str, tuple[str, str]]]:
    report = prepare_folder("folder", root, out, SETTINGS, 1, encoder)
    assert all(row.remedy for row in report.quarantine)
    assert report.shards.samples + len(report.quarantine) >= report.clips
    return report, {row.file: (row.step, row.reason) for row in report.quarantine}


def test_what_is_broken_is_said_and_the_rest_is_done(
    tmp_path: Path, face: list[Frame], clips_dir: Path, weighted: None
) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    sound = voice(FRAMES / 25)
    encode(face, sound, root / "good.mp4")
    content = (root / "good.mp4").read_bytes()
    header = content.index(b"moov") - 4
    length = struct.unpack(">I", content[header : header + 4])[0]
    (root / "empty.mp4").touch()
    (root / "cut in the pictures.mp4").write_bytes(content[: header + length + (len(content) - header - length) // 2])
    (root / "cut in the index.mp4").write_bytes(content[: header + length // 2])
    encode(lit(face, 1), None, root / "mute.mp4")
    encode(lit(face, 2), np.zeros(FRAMES * 640, dtype=np.int16), root / "silent.mp4")
    encode(lit(face, 3), voice(FRAMES / 75, hertz=230), root / "breaks off.mp4")
    encode(lit(face[:1], 4), sound[:640], root / "one frame.mp4")
    encode([np.full_like(face[0], 90)] * FRAMES, voice(FRAMES / 25, hertz=240), root / "nobody.mp4")
    with av.open(str(root / "voice.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        block = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        block.sample_rate = 16000
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    cv2.imwrite(str(tmp_path / "picture.jpg"), face[0])
    shutil.copy(tmp_path / "picture.jpg", root / "picture.mp4")
    (root / "text.mkv").write_text("a list of clips\n" * 100)
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    (root / "round").symlink_to(root)
    os.mkfifo(root / "pipe.mp4")
    report, rows = prepare(root, tmp_path / "run")
    expected = {
        "empty.mp4": ("manifest", "is empty"),
        "cut in the pictures.mp4": ("manifest", "it is truncated"),
        "cut in the index.mp4": ("manifest", "cannot be decoded"),
        "mute.mp4": ("quality", "no sound"),
        "silent.mp4": ("quality", "the sound is silent"),
        "breaks off.mp4": ("quality", "the sound lasts for only 3"),
        "one frame.mp4": ("quality", "only 1 frames"),
        "nobody.mp4": ("quality", "face"),
        "voice.mp4": ("manifest", "no video track"),
        "picture.mp4": ("manifest", "is a picture, not a clip"),
        "text.mkv": ("manifest", "cannot be decoded"),
        "loop.mp4": ("manifest", "Too many levels of symbolic links"),
        "pipe.mp4": ("manifest", "no ordinary file but a pipe"),
    }
    assert set(rows) == set(expected), rows
    for file, (step, reason) in expected.items():
        assert rows[file][0] == step and reason in rows[file][1], (file, rows[file])
    assert report.shards.samples == 1


@pytest.mark.slow(minutes=0.1)
def test_what_is_only_unusual_becomes_samples(tmp_path: Path, face: list[Frame], weighted: None) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    seconds = FRAMES / 25
    sound = voice(seconds)
    encode(face + face[::-1], voice(seconds, hertz=210), root / "60.mp4", fps=60)
    uneven = np.cumsum([0.0, *np.tile([0.02, 0.06, 0.04], FRAMES)])[:FRAMES]
    mux(root / "uneven.mkv", face, times=uneven.tolist(), sound=sound)
    mux(root / "old.mpg", face, codec="mpeg1video", sound=voice(seconds, 44_100), rate=44_100)
    for number, name in enumerate(("named.avi", "line\nbreak.mp4", f"{'long' * 60}.mp4"), start=1):
        encode(lit(face, number), voice(seconds, hertz=220 + 10 * number), tmp_path / "really.mp4")
        shutil.move(tmp_path / "really.mp4", root / name)
    for number, (rate, layout) in enumerate(((8_000, "mono"), (48_000, "stereo"), (96_000, "5.1")), start=4):
        mux(root / f"{rate} {layout}.mkv", lit(face, number), sound=voice(seconds, rate), rate=rate, layout=layout)
    encode(lit(face, 7), voice(4.0, hertz=300), root / "long sound.mp4")
    encode(lit(face, 8), voice(0.7 * seconds, hertz=310), root / "short sound.mp4")
    report, rows = prepare(root, tmp_path / "run")
    assert rows == {} and report.shards.samples == report.clips == 11


def test_a_telephone_held_upright_stands_upright(tmp_path: Path, face: list[Frame], weighted: None) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    lying = [np.ascontiguousarray(np.rot90(picture)) for picture in face]
    path = mux(root / "portrait.mp4", lying, codec="libx265", sound=voice(FRAMES / 25))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    # Shown turned by 90 degrees clockwise, as telephones write it.
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    report, rows = prepare(root, tmp_path / "run")
    assert rows == {} and report.shards.samples == 1
    assert next(open_video(path).frames()).shape == face[0].shape


def test_of_two_people_one_is_followed(tmp_path: Path, face: list[Frame], other: list[Frame], weighted: None) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    sound = voice(FRAMES / 25)
    encode([np.hstack(pair) for pair in zip(face, other, strict=True)], sound, root / "both.mp4")
    shown = [right if 8 <= index < 22 else np.zeros_like(right) for index, right in enumerate(other)]
    encode(
        [np.hstack(pair) for pair in zip(face, shown, strict=True)],
        voice(FRAMES / 25, hertz=230),
        root / "comes and goes.mp4",
    )
    report, rows = prepare(root, tmp_path / "run")
    assert rows == {} and report.shards.samples == 2
    run = RunFolder(tmp_path / "run")
    for clip in scan("folder", root).clips:
        crop = load_crop(run.crops(clip.speaker), clip.name)
        assert crop.metadata["most_faces"] == 2
        # The crop's centre in the source: always in the same half.
        inverse = np.stack([cv2.invertAffineTransform(matrix) for matrix in crop.transforms])
        across = inverse[:, 0] @ np.array([64.0, 64.0, 1.0])
        assert np.ptp(across) < 60 and (across.max() < 360 or across.min() > 360), clip.clip_id
        if clip.path == "comes and goes.mp4":
            assert across.max() < 360


def test_sound_of_any_rate_and_channels_is_the_same_sound(tmp_path: Path, face: list[Frame]) -> None:
    for rate in (8_000, 11_025, 22_050, 44_100, 48_000, 96_000):
        for layout in ("mono", "stereo", "5.1"):
            path = mux(tmp_path / f"{rate}-{layout}.mkv", face[:5], sound=voice(1.0, rate), rate=rate, layout=layout)
            heard = open_sound(path).in_step().astype(float)
            assert abs(len(heard) - 16_000) < 40
            spectrum = np.abs(np.fft.rfft(heard[2000:14_000] * np.hanning(12_000)))
            assert abs(int(spectrum.argmax()) * 16_000 / 12_000 - 220) < 2
            assert np.sqrt(np.mean((heard / 32768) ** 2)) > 0.03


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A corpus folder outside pytest's private one, for a user without rights."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_may_not_be_read_is_said(nobody: Path, write_clip: WriteClip) -> None:
    write_clip(nobody / "open.mp4").chmod(0o644)
    write_clip(nobody / "secret.mp4").chmod(0)
    write_clip(nobody / "closed" / "inside.mp4")
    (nobody / "closed").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        found = scan("folder", nobody)
    finally:
        if root:
            os.seteuid(0)
        (nobody / "closed").chmod(0o755)
    assert [clip.path for clip in found.clips] == ["open.mp4"]
    rows = {row.file: row.reason for row in found.quarantine}
    assert rows["secret.mp4"] == "the file cannot be read: Permission denied"
    assert rows["closed"] == "the folder closed cannot be listed"
    assert all("permissions" in row.remedy for row in found.quarantine)
