"""Tiny clips made on the spot, among them every kind of broken file that users have."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from preparation.faces.landmarks import STABLE, STABLE_MEAN
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.writing import encode

WriteClip = Callable[..., Path]


class MakeFace(Protocol):
    """`face`, as tests receive it."""

    def __call__(self, frames: int, centre: tuple[float, float] = ..., unit: float = ...) -> NDArray[np.float32]: ...


def noise(frames: int, height: int = 64, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth coloured texture that drifts, uint8 [T, H, W, 3]: unlike pure noise it survives a codec."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, 3)
    t = np.arange(frames)[:, None, None, None]
    wave = np.sin(x[..., None] / 7 + 0.2 * t + phase) * np.cos(y[..., None] / 5 - 0.1 * t + phase)
    return (127 + 100 * wave).astype(np.uint8)


def tone(seconds: float, hertz: float = 220.0) -> NDArray[np.int16]:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ)).astype(np.int16)


def hiss(seconds: float, seed: int) -> NDArray[np.int16]:
    """A tone in a hiss of its own: no two seeds sound alike."""
    plain = tone(seconds)
    return (plain + np.random.default_rng(seed).integers(-600, 600, len(plain))).astype(np.int16)


def face(frames: int, centre: tuple[float, float] = (40, 30), unit: float = 20.0) -> NDArray[np.float32]:
    """Landmarks [T, 68, 2] of a mean face that nods: `unit` pixels between the eyes."""
    points = np.zeros((68, 2))
    points[:17] = np.stack([np.linspace(-1.2, 1.2, 17), 1.8 * np.sin(np.linspace(0.15, np.pi - 0.15, 17))], 1)
    points[17:27, 0], points[17:27, 1] = np.linspace(-0.9, 0.9, 10), -0.35
    points[27:31, 1], points[31:36, 1] = np.linspace(0, 0.6, 4), 0.75
    for eye, x in ((36, -0.5), (42, 0.5)):
        angle = np.array([np.pi, 4 * np.pi / 3, 5 * np.pi / 3, 0, np.pi / 3, 2 * np.pi / 3])
        points[eye : eye + 6] = np.stack([x + 0.2 * np.cos(angle), 0.08 * np.sin(angle)], 1)
    points[STABLE] = STABLE_MEAN
    for start, count, radius in ((48, 12, (0.45, 0.2)), (60, 8, (0.35, 0.08))):
        angle = np.pi - np.arange(count) / count * 2 * np.pi
        points[start : start + count] = np.stack([radius[0] * np.cos(angle), 1.13 - radius[1] * np.sin(angle)], axis=1)
    nod = np.stack([np.zeros(frames), 0.5 * np.sin(np.arange(frames) / 4)], axis=1)
    return (np.array(centre) + unit * points + nod[:, None]).astype(np.float32)


@pytest.fixture(scope="session")
def make_face() -> MakeFace:
    return face


@pytest.fixture
def write_clip() -> WriteClip:
    def write(path: Path, frames: int = 30, fps: int = 25, sound: bool = True, **size: int) -> Path:
        # No two clips are one recording, unless they are asked to be.
        size.setdefault("seed", zlib.crc32(f"{path.parent.name}/{path.name}".encode("utf-8", "surrogateescape")))
        heard = hiss(frames / fps, size["seed"]) if sound else None
        encode(noise(frames, **size), heard, path, fps=fps)
        return path

    return write


@pytest.fixture
def studio_corpus(tmp_path: Path, studio_template: Path) -> Path:
    """Six speakers in the studio's layout, with true landmarks: two public, three clients, one unseen."""
    return Path(shutil.copytree(studio_template, tmp_path / "corpus"))


@pytest.fixture(scope="session")
def studio_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studio")
    people = {"pretrain": ("p0000", "p0001"), "trainval": ("c0000", "c0001", "c0002"), "test": ("u0000",)}
    for subset, speakers in people.items():
        for speaker in speakers:
            for number in range(1, 5 if subset == "trainval" else 3):
                draw_clip(root / subset / speaker / f"{number:05d}.mp4")
    return root


def draw_clip(path: Path, frames: int = 30, sound: NDArray[np.int16] | None = None) -> None:
    """A clip of the studio's layout with its truth; clips of other speakers or numbers are other recordings."""
    seed = zlib.crc32(f"{path.parent.name}/{path.stem}".encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(noise(frames, seed=seed), hiss(frames / 25, seed) if sound is None else sound, path)
    opening = np.random.default_rng(seed).uniform(0, 0.4, frames).astype(np.float32)
    truth = {"landmarks": face(frames), "mouth_opening": opening}
    save_file(truth, path.with_name(f"{path.stem}.truth.safetensors"))
