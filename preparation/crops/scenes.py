"""Scene cuts: a clip is split where the picture jumps to another shot, so that no face turns into another.

PySceneDetect's adaptive detector finds hard cuts: frames whose change from the previous frame stands out from the
changes around it, so that a moving head or camera does not count. It does not find dissolves and fades.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np

from preparation.media.rates import FPS
from preparation.media.track.frames import Frame, Picture
from preparation.settings import SceneSettings

LOOK_WIDTH = 160
"""Frames are shrunk to about this width first: a cut shows at any size, and a small one saves time and codec noise."""


def find_scenes(frames: Iterable[Frame | Picture], settings: SceneSettings) -> list[slice]:
    """The scenes of a clip in order, which together hold all its frames; a clip without a cut is one scene."""
    # PySceneDetect takes half a second to import, which only a corpus with cuts should pay.
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(
        adaptive_threshold=settings.adaptive_threshold,
        min_content_val=settings.minimum_change,
        min_scene_len=settings.shortest,
    )
    cuts: list[int] = []
    count = 0
    for index, frame in enumerate(frames):
        found = detector.process_frame(FrameTimecode(index, float(FPS)), _shrunk(np.asarray(frame)))
        cuts.extend(cut.frame_num for cut in found)
        count = index + 1
    edges = [0, *cuts, count]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _shrunk(frame: Frame) -> Frame:
    """A small copy with the channels as OpenCV has them, blue first, which the detector expects."""
    factor = max(1, round(frame.shape[1] / LOOK_WIDTH))
    size = (max(1, frame.shape[1] // factor), max(1, frame.shape[0] // factor))
    small = frame if factor == 1 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1])
