"""How a generated clip moves; no value here means anything without the true clip's value beside it.

The paper's jitter is `mean_frame_delta`: it measures motion and is lowest, zero, for a frozen picture. The flicker
ratio and the landmark jitter ratio distinguish trembling from motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evaluation.metrics.arrays import Frames
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.interface import Figures, Networks
from preparation.faces.landmarks import Landmarks


def mean_frame_delta(frames: Frames) -> float:
    """mean |frame_{t+1} − frame_t| of frames uint8 [T, H, W, 3], scaled to [0, 1]; NaN for a single frame."""
    if len(frames) < 2:
        return float("nan")
    return float(np.mean([np.abs(delta).mean() for delta in _deltas(frames)]))


def flicker_ratio(frames: Frames) -> float:
    """mean |Δ²| / mean |Δ| of frames over time: real clips 1.2-1.4, independent noise √3; NaN for a still."""
    if len(frames) < 3:
        return float("nan")
    moving = mean_frame_delta(frames)
    trembling = float(np.mean([np.abs(later - delta).mean() for delta, later in pairwise(_deltas(frames))]))
    return trembling / moving if moving > 0 else float("nan")


def landmark_jitter(landmarks: Landmarks) -> float:
    """Mean length of the landmarks' acceleration, pixels per frame²: landmarks [T, 68, 2]."""
    if len(landmarks) < 3:
        return float("nan")
    return float(np.linalg.norm(np.diff(landmarks, n=2, axis=0), axis=-1).mean())


def landmark_jitter_ratio(generated: Landmarks, truth: Landmarks) -> float:
    """Jitter of generated landmarks as a multiple of the true clip's; both must come from the same tracker."""
    of_truth = landmark_jitter(truth)
    return landmark_jitter(generated) / of_truth if of_truth > 0 else float("nan")


def flow_error(frames: Frames, truth: Frames) -> float:
    """tOF (Chu et al. 2020): mean length of the difference between the optical flows of two clips [T, H, W, 3].

    Pixels per frame, by Farnebäck's flow on grey frames. Unlike the ratios it compares the motion at each moment, so a
    still picture's error is the motion of the true clip.
    """
    assert frames.shape == truth.shape, f"frames differ in shape: {frames.shape} and {truth.shape}"
    if len(frames) < 2:
        return float("nan")
    pairs = zip(_flows(frames), _flows(truth), strict=True)
    return float(np.mean([np.linalg.norm(one - other, axis=-1).mean() for one, other in pairs]))


def measure(clip: EvaluationClip, frames: Frames, networks: Networks) -> Figures:
    """Motion and flicker, each with the true clip's beside it."""
    return {
        "mean_frame_delta": mean_frame_delta(frames),
        "mean_frame_delta_truth": mean_frame_delta(clip.frames),
        "flicker_ratio": flicker_ratio(frames),
        "flicker_ratio_truth": flicker_ratio(clip.frames),
    }


def _flows(frames: Frames) -> Iterator[npt.NDArray[np.float32]]:
    """Flow [H, W, 2] from each frame to the next, one at a time."""
    import cv2  # here, so that importing the catalogue stays fast

    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    for one, other in pairwise(grey):
        yield cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def _deltas(frames: Frames) -> Iterator[npt.NDArray[np.float32]]:
    """Change [H, W, 3] from each frame to the next, one at a time: a long clip is never held as floats."""
    for frame, later in pairwise(frames):
        yield later.astype(np.float32) / 255 - frame.astype(np.float32) / 255
