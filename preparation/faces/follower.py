"""Follow one person's face through a clip, with a detector that finds all faces of a single image."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from preparation.faces.landmarks import Landmarks
from preparation.faces.track import NOT_LOOKED, Seen, Track
from preparation.media.track.frames import Frame, Picture
from preparation.settings import FaceSettings

Detect = Callable[[Frame], list[Landmarks]]
"""All faces of one RGB frame, each float32 [68, 2] in pixels (0 is the first pixel's centre)."""


def follow(
    frames: Iterable[Frame | Picture], detect: Detect, settings: FaceSettings, seen: Seen | None = None
) -> Track:
    """The track of one face from every n-th frame and the last one; `bridge_gaps` fills the frames between."""
    landmarks: list[Landmarks] = []
    counts: list[int] = []
    follower = _Follower(settings.longest_bridged_gap)
    missing = np.full((68, 2), np.nan, dtype=np.float32)

    def look(picture: Frame | Picture, index: int) -> None:
        frame = np.asarray(picture)
        faces = detect(frame)
        chosen = follower.choose(faces, index, frame.shape[1], frame.shape[0])
        landmarks[index], counts[index] = missing if chosen is None else faces[chosen], len(faces)
        if seen is not None:
            seen(None if chosen is None else faces[chosen])

    last: Frame | Picture | None = None
    for index, frame in enumerate(frames):
        landmarks.append(missing)
        counts.append(NOT_LOOKED)
        last = frame
        if index % settings.every == 0:
            look(frame, index)
    if last is not None and counts[-1] == NOT_LOOKED:
        look(last, len(counts) - 1)
    stacked = np.stack(landmarks) if landmarks else np.zeros((0, 68, 2), dtype=np.float32)
    return Track(stacked, np.array(counts, dtype=np.int16))


class _Follower:
    """Chooses one person's face: the nearest to its last position, or at the start the largest and most central one.

    After more than `patience` frames without it, the choice starts anew.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._centre = np.zeros(2)
        self._height = 0.0
        self._seen = -patience - 2

    def choose(self, faces: list[Landmarks], index: int, width: int, height: int) -> int | None:
        if not faces:
            return None
        centres = np.array([face.mean(0) for face in faces])
        heights = np.array([np.ptp(face[:, 1]) for face in faces])
        if index - self._seen > self._patience + 1:
            off_centre = np.linalg.norm(centres - np.array([width, height]) / 2, axis=1) / np.hypot(width, height)
            best = int(np.argmax(heights * (1 - off_centre)))
        else:
            distance = np.linalg.norm(centres - self._centre, axis=1)
            best = int(np.argmin(distance))
            if distance[best] > self._height:
                return None  # someone else, or a cut: let the gap decide
        self._centre, self._height, self._seen = centres[best], float(heights[best]), index
        return best
