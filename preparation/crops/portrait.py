"""The inputs of a talking head: one picture of one face, cut as the run's crops are, and speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from preparation.crops.quality import face_pixels, loudness, median_roll
from preparation.faces.alignment import fit_transforms, warp
from preparation.faces.landmarks import Landmarks
from preparation.faces.trackers import open_detector
from preparation.media.picture import open_picture
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.media.track.frames import Frame
from preparation.settings import PreparationSettings

AS_IT_IS_SCALE, AS_IT_IS_PIXELS = 0.02, 1.5
"""How far the corners of a picture of the crops' size may move (a share of the size, plus pixels) for it to be taken as
it is: cutting it anew would only blur it."""


@dataclass(frozen=True)
class Portrait:
    """A reference frame, uint8 [size, size, 3], and how it was made, in words."""

    frame: Frame
    how: str


@dataclass(frozen=True)
class Speech:
    """A voice, int16 [S], 16 kHz mono, and what was converted when it was read, besides the rate."""

    sound: NDArray[np.int16]
    conversions: dict[str, bool | int | float | str]


def read_portrait(path: Path, settings: PreparationSettings) -> Portrait:
    """The face in a picture file, cut as the run's crops are.

    Where no face tracker is available (rendered runs need none), the picture must already be such a crop. Raises
    PrivFedTalkError for a file that is no picture, and for a picture with no face, several faces, or a poor one.
    """
    picture, size = open_picture(path, settings.corpus.media), settings.crops.size
    is_crop_size = picture.shape == (size, size, 3)
    detector = open_detector(settings.faces)
    if detector is None:
        if is_crop_size:
            return Portrait(picture, "taken as a crop, as it is: no face tracker is at hand to look at it")
        height, width = picture.shape[:2]
        raise PrivFedTalkError(
            f"{path.name} has {width} x {height} pixels, and no face tracker is at hand to find its face",
            f"give a crop of {size} x {size} pixels like those in the run's clients/*/crops, or get a tracker: "
            "privfedtalk weights list",
        )
    try:
        faces = detector.detect(picture)
    finally:
        detector.close()
    landmarks = _only_face(path, faces, settings)
    transform = fit_transforms(landmarks[None], settings.crops)[0]
    if is_crop_size and _changes_little(transform, size):
        return Portrait(picture, "is a crop already, taken as it is")
    return Portrait(warp(picture, transform, size), f"cut to {size} x {size} pixels around the face")


def read_speech(path: Path, settings: PreparationSettings) -> Speech:
    """The voice in a WAV, an MP3, a clip or any other file that FFmpeg reads. Raises PrivFedTalkError for a file that
    cannot be read, and for silence."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise PrivFedTalkError(f"there is no sound file {path}", "check the path given as --speech") from error
    track = open_sound(path, settings.corpus.media)
    sound = track.samples()
    if len(sound) == 0:
        reason = "is too short to hold speech" if track.exists else "has no sound track"
        raise PrivFedTalkError(f"{path.name} {reason}", "give a file with speech in it")
    # Half a second of speech between long pauses must not count as silence.
    loudest = max(loudness(sound[start : start + AUDIO_RATE_HZ]) for start in range(0, len(sound), AUDIO_RATE_HZ))
    if loudest < settings.quality.minimum_loudness:
        raise PrivFedTalkError(
            f"{path.name} is silent (its loudest second has a root mean square of {loudest:.5f})",
            "give the voice, or lower preparation.quality.minimum_loudness",
        )
    return Speech(sound, track.conversions.made())


def _only_face(path: Path, faces: list[Landmarks], settings: PreparationSettings) -> Landmarks:
    """The one face [68, 2] of the picture, if it is fit to be generated from."""
    if not faces:
        raise PrivFedTalkError(f"no face is found in {path.name}", "give a picture of one face, upright and well lit")
    if len(faces) > 1:
        raise PrivFedTalkError(
            f"{path.name} shows {len(faces)} faces, and which of them is to speak is not clear",
            "cut the picture to one of them",
        )
    height, roll = face_pixels(faces[0][None]), median_roll(faces[0][None])
    needed = settings.quality.minimum_face_pixels
    if height < needed:
        raise PrivFedTalkError(
            f"the face in {path.name} is {height:.0f} pixels high, {needed:.0f} are needed",
            "give a larger picture, or lower preparation.quality.minimum_face_pixels",
        )
    if roll > settings.quality.maximum_roll_degrees:
        raise PrivFedTalkError(
            f"the head in {path.name} is tilted by {roll:.0f} degrees",
            "turn the picture upright, or raise preparation.quality.maximum_roll_degrees",
        )
    return faces[0]


def _changes_little(transform: NDArray[np.float64], size: int) -> bool:
    corners = np.array([(0.0, 0.0), (size, 0.0), (0.0, size), (size, size)])
    moved = corners @ transform[:, :2].T + transform[:, 2]
    limit = AS_IT_IS_PIXELS + AS_IT_IS_SCALE * size
    return bool(np.linalg.norm(moved - corners, axis=1).max() < limit)
