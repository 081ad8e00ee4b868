"""A face followed through a clip: its landmarks in time, gaps bridged where short and cut where long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from preparation.corpora.clip import Clip
from preparation.faces.landmarks import Landmarks
from preparation.media.track.frames import Frame, Picture

NOT_LOOKED = -1

Seen = Callable[[Landmarks | None], None]
"""Called after each detection, before the next picture is taken, with the followed face [68, 2] or None."""


@dataclass(frozen=True)
class Track:
    """landmarks: float32 [T, 68, 2], source pixels, NaN where no face was found or looked for.

    faces: int16 [T], how many faces the frame holds, -1 where it was not looked at.
    """

    landmarks: Landmarks
    faces: NDArray[np.int16]

    @property
    def face_rate(self) -> float:
        """Share of the looked-at frames that hold a face."""
        looked = self.faces[self.faces != NOT_LOOKED]
        return float((looked > 0).mean()) if len(looked) else 0.0


class FaceTracker(Protocol):
    """Follows one face through the frames of a clip; keeps no memory from one clip to the next."""

    @property
    def name(self) -> str: ...

    @property
    def trembles(self) -> bool:
        """Whether its landmarks carry noise that is worth smoothing."""
        ...

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        """The face's track. Reads the frames one after the other, and makes an array only of those it looks at."""
        ...

    def close(self) -> None:
        """Release the tracker's resources."""
        ...


def bridge_gaps(landmarks: Landmarks, longest: int) -> tuple[Landmarks, list[slice]]:
    """Fill gaps of up to `longest` frames linearly; longer ones stay NaN and split the clip into segments.

    Rejecting a whole clip for one faceless frame would lose most of a real corpus; inventing seconds of a face would be
    worse. Returns the filled landmarks [T, 68, 2] and the segments in which every frame has a face, in order.
    """
    seen = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    filled = landmarks.copy()
    if len(seen) == 0:
        return filled, []
    breaks = np.flatnonzero(np.diff(seen) - 1 > longest)
    starts = [int(seen[0]), *(int(seen[place + 1]) for place in breaks)]
    stops = [*(int(seen[place]) + 1 for place in breaks), int(seen[-1]) + 1]
    segments = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
    for segment in segments:
        frames = np.arange(segment.start, segment.stop)
        after = np.searchsorted(seen, frames)
        before = np.maximum(after - (seen[after] != frames), 0)
        span = np.maximum(seen[after] - seen[before], 1)
        weight = ((frames - seen[before]) / span)[:, None, None]
        filled[segment] = (1 - weight) * landmarks[seen[before]] + weight * landmarks[seen[after]]
    return filled, segments


def longest_segment(segments: list[slice]) -> slice:
    """The longest segment, the first of equally long ones; an empty slice where there is none."""
    return max(segments, key=lambda segment: segment.stop - segment.start, default=slice(0, 0))


def smooth(landmarks: Landmarks, sigma: float) -> Landmarks:
    """Landmarks [T, 68, 2] without the tracker's jitter: a symmetric Gaussian of `sigma` frames, so lips do not lag."""
    if sigma <= 0 or len(landmarks) < 2:
        return landmarks
    return gaussian_filter1d(landmarks, sigma, axis=0, mode="nearest")
