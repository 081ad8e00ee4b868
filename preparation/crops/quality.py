"""Quality filters, each with a reason: clips that are too poor to learn from are left out, and the table says why."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preparation.faces.landmarks import BROWS, CHIN, Landmarks, roll_degrees
from preparation.media.track.frames import Frame
from preparation.settings import QualitySettings

SHARPNESS_SIZE = 128


@dataclass(frozen=True)
class Quality:
    """Measurements of a prepared clip. `loudness` is the sound's root mean square, full scale being 1; `sound_share` is
    the share of the clip between its first and its last sound."""

    frames: int
    face_rate: float
    face_pixels: float
    roll_degrees: float
    loudness: float
    sharpness: float = float("inf")
    sound_share: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """Why a clip is refused, and the remedy."""

    reason: str
    remedy: str


def judge(quality: Quality, settings: QualitySettings, has_audio: bool) -> Verdict | None:
    """The verdict of the first filter that refuses the clip, or None; the basic defects come first."""
    if settings.require_audio and not has_audio:
        return Verdict("no sound", "give the clip with its sound track, or set quality.require_audio=false")
    if quality.frames == 0:
        return Verdict("no face found", "check that the clip shows a face, upright and large enough")
    if quality.face_rate < settings.minimum_face_rate:
        return Verdict(
            f"a face in only {quality.face_rate:.0%} of the frames",
            "cut the clip to where the face is seen, or lower quality.minimum_face_rate",
        )
    if quality.frames < settings.minimum_frames:
        return Verdict(
            f"only {quality.frames} frames in a row with a face, {settings.minimum_frames} are needed",
            "give a longer clip, or lower quality.minimum_frames",
        )
    if quality.face_pixels < settings.minimum_face_pixels:
        return Verdict(
            f"the face is {quality.face_pixels:.0f} pixels high, {settings.minimum_face_pixels:.0f} are needed",
            "give a larger picture of the face, or lower quality.minimum_face_pixels",
        )
    if quality.roll_degrees > settings.maximum_roll_degrees:
        return Verdict(
            f"the head is tilted by {quality.roll_degrees:.0f} degrees",
            "rotate the clip upright, or raise quality.maximum_roll_degrees",
        )
    if settings.require_audio and quality.loudness < settings.minimum_loudness:
        return Verdict(
            f"the sound is silent (root mean square {quality.loudness:.5f})",
            "give the clip with its voice, or lower quality.minimum_loudness",
        )
    if settings.require_audio and quality.sound_share < settings.minimum_sound_share:
        return Verdict(
            f"the sound lasts for only {quality.sound_share:.0%} of the picture",
            "give the clip with its whole sound, cut it to where it sounds, or lower quality.minimum_sound_share",
        )
    if quality.sharpness < settings.minimum_sharpness:
        return Verdict(
            f"the face is blurred (variance of the Laplacian {quality.sharpness:.1f})",
            "give a sharper clip, or lower quality.minimum_sharpness",
        )
    return None


def face_pixels(landmarks: Landmarks) -> float:
    """Median distance from brows to chin of [T, 68, 2], pixels."""
    if len(landmarks) == 0:
        return 0.0
    return float(np.median(np.linalg.norm(landmarks[:, CHIN] - landmarks[:, BROWS].mean(1), axis=1)))


def median_roll(landmarks: Landmarks) -> float:
    """Median tilt of the eye line of [T, 68, 2], degrees, without sign."""
    return float(np.median(np.abs(roll_degrees(landmarks)))) if len(landmarks) else 0.0


def loudness(audio: NDArray[np.int16]) -> float:
    """Root mean square of int16 [S], full scale being 1."""
    return float(np.sqrt(np.mean((audio.astype(np.float64) / 32768) ** 2))) if len(audio) else 0.0


def sound_share(audio: NDArray[np.int16]) -> float:
    """How much of int16 [S] lies between its first and its last sample that is not zero, as a share of S.

    A track that starts late or ends early is filled up with zeros; speech pauses between words do not count.
    """
    sounding = np.flatnonzero(audio)
    return float(sounding[-1] - sounding[0] + 1) / len(audio) if len(sounding) else 0.0


def sharpness(crop: Frame) -> float:
    """Variance of the Laplacian of the grey crop at 128 pixels; blurred faces have less than about 10."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if grey.shape[0] != SHARPNESS_SIZE:
        grey = cv2.resize(grey, (SHARPNESS_SIZE, SHARPNESS_SIZE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())
