"""A contact sheet of a corpus: one clip a row, its frames from left to right."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from preparation.media.video import open_video


def contact_sheet(videos: list[Path], columns: int = 8, size: int = 144, gap: int = 2) -> NDArray[np.uint8]:
    """Frames spread evenly over each clip, uint8 [rows * size, columns * size, 3] with white gaps between."""
    rows = [_strip(video, columns, size, gap) for video in videos]
    rule = np.full((gap, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, rule)][:-1])


def _strip(video: Path, columns: int, size: int, gap: int) -> NDArray[np.uint8]:
    frames = list(open_video(video).frames())
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    rule = np.full((size, gap, 3), 255, np.uint8)
    tiles = [cv2.resize(frames[f], (size, size), interpolation=cv2.INTER_AREA) for f in chosen]
    return np.concatenate([part for tile in tiles for part in (tile, rule)][:-1], axis=1)


def choose_clips(root: Path, rows: int) -> list[Path]:
    """First clips of speakers spread evenly over a corpus in LRS3 layout."""
    speakers = sorted(path for path in root.glob("*/*") if path.is_dir())
    if not speakers:
        raise PrivFedTalkError(f"{root} holds no speaker folders", remedy="point at the root of a rendered corpus")
    picked = np.unique(np.linspace(0, len(speakers) - 1, min(rows, len(speakers))).round().astype(int))
    return [min(speakers[i].glob("*.mp4")) for i in picked]
