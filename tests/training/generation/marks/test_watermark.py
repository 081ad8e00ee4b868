"""The watermark: what it survives, what it costs, and how rarely it is seen where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from preparation.media.video import open_video
from preparation.media.writing import encode
from training.generation.marks.watermark import DETECTED, PLACES, STEP, brightness, coefficients, detect, embed

PAYLOAD = b"\x01\x23\x45\xab\xcd\xef"


def head(frames: int = 25, size: int = 128, seed: int = 0) -> np.ndarray:
    """A smooth picture with a part that moves, uint8 [T, size, size, 3]."""
    rng = np.random.default_rng(seed)
    still = cv2.GaussianBlur(rng.uniform(0, 255, (size, size, 3)).astype(np.float32), (0, 0), size / 12)
    still = 40 + 170 * (still - still.min()) / np.ptp(still)
    y, x = np.mgrid[:size, :size] / size
    mouth = np.exp(-(((x - 0.5) / 0.12) ** 2) - ((y - 0.7) / 0.06) ** 2)[None, ..., None]
    opening = np.sin(np.arange(frames) / 3)[:, None, None, None]
    return np.clip(still - 60 * opening * mouth, 0, 255).astype(np.uint8)


def marked(frames: np.ndarray, **options: Any) -> np.ndarray:
    return np.stack(list(embed(frames, PAYLOAD, **options)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("size", [64, 128, 256])
def test_it_is_read_back_and_not_seen(size: int) -> None:
    plain = head(size=size)
    with_mark = marked(plain)
    assert psnr(with_mark, plain) > 41
    found = detect(with_mark)
    assert found.detected and found.payload == PAYLOAD
    assert found.false_positive_rate < 1e-10
    assert not detect(plain).detected
    assert detect(plain).payload is None


@pytest.mark.parametrize("crf", [18, 24])
def test_it_survives_h264_once_and_again(tmp_path: Path, crf: int) -> None:
    encode(marked(head()), None, tmp_path / "first.mp4", crf=18)
    encode(open_video(tmp_path / "first.mp4").all(), None, tmp_path / "again.mp4", crf=crf)
    assert detect(open_video(tmp_path / "again.mp4").all()).payload == PAYLOAD


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 2.0])
def test_it_survives_rescaling(scale: float) -> None:
    frames = marked(head())
    scaled = np.stack([cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) for f in frames])
    assert detect(scaled).payload == PAYLOAD


def test_it_survives_cutting_in_time_and_a_change_of_light() -> None:
    frames = marked(head())
    assert detect(frames[11:14]).payload == PAYLOAD
    assert detect(np.clip(1.05 * frames + 4.0, 0, 255).astype(np.uint8)).detected


def test_another_key_sees_nothing() -> None:
    frames = marked(head(), key="mine")
    assert detect(frames, key="mine").payload == PAYLOAD
    assert not detect(frames).detected


def test_scores_of_unmarked_videos_keep_to_the_bound() -> None:
    """Over keys, the score of one unmarked video has mean 0, and its tails lie under exp(-z^2 / 2)."""
    plain = head(frames=2)
    scores = np.array([detect(plain, key=f"key {number}").score for number in range(300)])
    assert abs(scores.mean()) < 0.25
    assert (scores >= 2).mean() <= np.exp(-2) and (scores >= 3).mean() <= np.exp(-4.5) + 0.01
    assert scores.max() < DETECTED


def test_it_does_not_flicker() -> None:
    plain = head()
    moves = [np.abs(np.diff(video.astype(float), axis=0)).mean() for video in (marked(plain), plain)]
    assert moves[0] < moves[1] + 0.25  # grey levels a frame


def lattice(frames: np.ndarray) -> np.ndarray:
    """Where each coefficient's lattice lies, in steps, as anybody reads it from a marked clip without the key."""
    turns = np.exp(2j * np.pi * np.stack([coefficients(frame) for frame in frames]) / STEP)
    return np.angle(turns.mean(0)) / (2 * np.pi)


def moved(frames: np.ndarray, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The frames with their coefficients moved by what `move` makes of them."""
    patterns = [brightness(move(coefficients(frame)).astype(np.float32), frame.shape[:2]) for frame in frames]
    return np.clip(np.rint(frames + np.stack(patterns)[..., None]), 0, 255).astype(np.uint8)


def test_one_marked_clip_is_enough_to_mark_another_without_the_key() -> None:
    """A watermark is a hint: whoever has this code and one clip copies the mark, whatever the key."""
    copied = lattice(marked(head(), key="mine"))
    other = head(seed=1)
    assert not detect(other, key="mine").detected

    def to_lattice(seen: np.ndarray) -> np.ndarray:
        return STEP * (np.round(seen / STEP - copied) + copied) - seen

    found = detect(moved(other, to_lattice), key="mine")
    assert found.score > 15 and found.payload == PAYLOAD


def test_the_mark_is_removed_without_the_key_at_less_than_it_cost() -> None:
    plain = head()
    with_mark = marked(plain, key="mine")
    turned = np.random.default_rng(0).random(PLACES) < 0.7  # of these bits a faint opposite is left, of the others all
    bare = moved(with_mark, lambda seen: np.where(turned, 0.3 * STEP, 0))
    assert detect(with_mark, key="mine").score > 15
    assert not detect(bare, key="mine").detected
    assert psnr(bare, with_mark) > psnr(with_mark, plain)
