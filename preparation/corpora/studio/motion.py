"""How a speaker's head, gaze, lids and brows move; and the pose of the whole face, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from preparation.corpora.studio.head.camera import HeadPose
from preparation.corpora.studio.head.eyes import EyePose
from preparation.corpora.studio.head.identity import Identity
from preparation.corpora.studio.head.mouth import MAX_GAP_MM, OPEN_VOWEL_MM, MouthPose
from preparation.corpora.studio.voice.articulation import Mouth, Utterance, articulate

FPS = 25
MAX_TURN_DEGREES = 10.0


@dataclass(frozen=True)
class FacePose:
    """A face at one moment."""

    head: HeadPose
    eyes: EyePose
    mouth: MouthPose
    brow_mm: float


@dataclass(frozen=True)
class Performance:
    """A clip before it is drawn: one pose for each frame, and the utterance."""

    poses: tuple[FacePose, ...]
    utterance: Utterance


def perform(rng: np.random.Generator, person: Identity, utterance: Utterance) -> Performance:
    """The frames of an utterance; frame f shows the moment f / 25 s."""
    frames = round(utterance.seconds * FPS)
    times = (np.arange(frames) / FPS).astype(np.float32)
    mouth = articulate(utterance, person.smoothness_seconds)
    head = _head(rng, person, frames, mouth.at(times))
    blink = _blinks(rng, frames)
    gaze = _gaze(rng, frames)
    brow = 1.8 * _wander(rng, frames, 7.0) * person.liveliness
    smile = person.smile + 0.35 * _wander(rng, frames, 12.0)
    at = mouth.at(times)
    gaps = np.minimum(OPEN_VOWEL_MM * person.articulation_gain * at.opening, MAX_GAP_MM)
    poses = []
    for f in range(frames):
        # The eyes hold the camera while the head turns, as people do.
        eyes = EyePose(
            float(blink[f]),
            float(np.clip(gaze[f, 0] - 0.75 * head[f].yaw, -16.0, 16.0)),
            float(np.clip(gaze[f, 1] - 0.75 * head[f].pitch, -10.0, 10.0)),
            float(np.clip(0.35 * smile[f], 0.0, 0.5)),
        )
        lips = MouthPose(
            gap=float(gaps[f]),
            spread=float(at.spread[f]),
            press=float(at.closure[f]),
            smile=float(smile[f] * (1.0 - 0.5 * abs(float(at.spread[f])))),
            tongue=float(at.tongue[f]),
        )
        poses.append(FacePose(head[f], eyes, lips, float(brow[f])))
    return Performance(tuple(poses), utterance)


def _wander(rng: np.random.Generator, frames: int, sigma: float) -> NDArray[np.float64]:
    """Smooth noise of unit standard deviation; the margin gives its ends the same deviation as its middle."""
    margin = int(4 * sigma)
    track = gaussian_filter1d(rng.standard_normal(frames + 2 * margin), sigma)
    return track[margin : margin + frames] * np.sqrt(2.0 * sigma * np.sqrt(np.pi))


def _head(rng: np.random.Generator, person: Identity, frames: int, mouth: Mouth) -> list[HeadPose]:
    lively = person.liveliness
    yaw = rng.normal(0.0, 2.6) + 2.6 * lively * _wander(rng, frames, 11.0)
    nod = 0.9 * lively * gaussian_filter1d(mouth.opening.astype(np.float64), 3.0)
    pitch = rng.normal(0.0, 1.6) + 1.8 * lively * _wander(rng, frames, 9.0) + nod
    roll = rng.normal(0.0, 1.2) + 1.1 * lively * _wander(rng, frames, 12.0)
    x = rng.normal(0.0, 1.5) + 1.1 * lively * _wander(rng, frames, 12.0)
    y = rng.normal(0.0, 1.2) + 0.8 * lively * _wander(rng, frames, 10.0)
    yaw, pitch = (MAX_TURN_DEGREES * np.tanh(track / MAX_TURN_DEGREES) for track in (yaw, pitch))
    pitch = pitch - person.camera_pitch  # seen from below, a face looks up
    x, y = (4.0 * np.tanh(track / 4.0) for track in (x, y))
    return [HeadPose(*(float(track[f]) for track in (yaw, pitch, roll, x, y))) for f in range(frames)]


def _blinks(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """How far the lids are closed in each frame, [frames] in 0-1: a blink every two to four seconds, in which closing
    takes two frames and opening four."""
    shape = np.array([0.0, 0.55, 1.0, 0.92, 0.55, 0.25, 0.08])
    track = np.zeros(frames + 20)
    time = float(rng.uniform(-10.0, 60.0))
    while time < frames:
        start = max(0, int(time))
        strength = float(rng.uniform(0.85, 1.0))
        track[start : start + len(shape)] = np.maximum(track[start : start + len(shape)], strength * shape)
        time += float(rng.uniform(45.0, 110.0))
    return track[:frames]


def _gaze(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Saccades between fixations near the camera, degrees [frames, 2]."""
    track = np.zeros((frames, 2))
    position = np.zeros(2)
    next_jump = int(rng.integers(8, 30))
    for f in range(frames):
        if f == next_jump:
            position = rng.normal(0.0, 1.0, 2) * (5.5, 2.5) * (rng.random() < 0.75)
            next_jump += int(rng.integers(10, 34))
        track[f] = position
    return gaussian_filter1d(track, 0.5, axis=0, mode="nearest")
