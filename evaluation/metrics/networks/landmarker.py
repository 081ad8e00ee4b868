"""Whether a face tracker still finds one face in generated frames, and where its landmarks lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import cv2
import numpy as np

from common.weights import registry as weights
from evaluation.metrics.arrays import Frame, Frames
from evaluation.metrics.clip import Track
from preparation.faces.landmarks import Landmarks
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.settings import FaceSettings

Detect = Callable[[Frame], list[Landmarks]]
"""All faces of one frame [H, W, 3], landmarks [68, 2] each."""

BORDER = 0.25
"""Replicated border on each side, as a fraction of the crop."""


@contextmanager
def open_track(settings: FaceSettings | None = None) -> Iterator[tuple[Track | None, str]]:
    """Open a `Track` for the protocol, in which threads take turns; yields None and the reason where its model file is
    absent."""
    if weights.find_optional("face_landmarker") is None:
        yield None, "MediaPipe's model file is absent (`privfedtalk weights list` says where it goes)"
        return
    tracker = MediaPipeTracker(settings or FaceSettings())
    turn = Lock()

    def track(frames: Frames) -> tuple[Landmarks, list[bool]]:
        with turn:
            return track_each(tracker.detect, frames)

    try:
        yield track, ""
    finally:
        tracker.close()


def track_each(detect: Detect, frames: Frames) -> tuple[Landmarks, list[bool]]:
    """Landmarks [T, 68, 2] of frames [T, H, W, 3], NaN without a face, and whether exactly one face was found in each.

    Every frame is detected by itself: smoothing or bridging gaps would hide a generator's errors. The tight crop gets a
    border first: without one the detector found two faces in 1.5 % of true crops.
    """
    margin = round(BORDER * frames.shape[1])
    landmarks = np.full((len(frames), 68, 2), np.nan, np.float32)
    found = []
    for index, frame in enumerate(frames):
        faces = detect(cv2.copyMakeBorder(frame, margin, margin, margin, margin, cv2.BORDER_REPLICATE))
        found.append(len(faces) == 1)
        if found[-1]:
            landmarks[index] = faces[0] - margin
    return landmarks, found
