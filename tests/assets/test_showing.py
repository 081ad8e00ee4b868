"""What assets show of themselves: a clip that plays, in what Dagster's pages let through."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from assets.showing import playing
from preparation.media.writing import encode


def test_a_clip_plays_over_its_sound(tmp_path: Path) -> None:
    """Every second frame, its own picture; the waveform is wide where the clip is loud, and its mark runs along."""
    frames = np.stack([np.full((64, 64, 3), 5 * number, np.uint8) for number in range(40)])
    loud = np.sin(np.arange(40 * 640) / 9)
    loud[: 20 * 640] = 0
    encode(frames, (20_000 * loud).astype(np.int16), tmp_path / "clip.mp4")
    told = playing(tmp_path / "clip.mp4", seconds=1.2, height=64).value
    head, _, content = told.removesuffix(")").partition("base64,")
    assert head == "![clip](data:image/webp;"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.n_frames == 15 and picture.size == (64, 88) and picture.info["loop"] == 0
    shown = []
    for number in range(picture.n_frames):
        picture.seek(number)
        shown.append(np.asarray(picture.convert("RGB")).astype(int))
    brightness = [frame[:64].mean() for frame in shown]
    assert np.allclose(brightness, 5 * np.arange(0, 30, 2), atol=8)
    wave = shown[0][66:70]  # far from the middle line: only loud moments reach there
    assert wave[:, 6:40].max() < 80 < wave[:, 58:].max()
    marks = [int(frame[66:68, :, 0].mean(0).argmax()) for frame in shown]
    assert marks[0] < 6 and marks[-1] > 56 and all(np.diff(marks) > 0)
