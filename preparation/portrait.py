"""What a talking head is made from: one picture of one face, cut as the run's crops are, and speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.faces.alignment import fit_transforms, warp
from preparation.faces.landmarks import Landmarks
from preparation.faces.trackers import open_detector
from preparation.media.container import DEFAULT_LIMITS
from preparation.media.frames import Frame
from preparation.media.limits import BeyondLimitError
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.quality import face_pixels, loudness, median_roll
from preparation.settings import MediaSettings, PreparationSettings

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""What a picture may be; Pillow knows formats that start other programs."""

AS_IT_IS_SCALE, AS_IT_IS_PIXELS = 0.02, 1.5
"""A picture of the crops' size whose face lies so near to where crops have it is taken as it is: cutting it anew would
only blur it."""


@dataclass(frozen=True)
class Portrait:
    """A reference frame, uint8 [size, size, 3], and how it came about, for people."""

    frame: Frame
    how: str


def read_portrait(path: Path, settings: PreparationSettings) -> Portrait:
    """The face of a picture file as the run's crops show faces.

    Without a face tracker at hand (rendered runs need none) the picture must be such a crop already. Raises
    PrivFedTalkError for a file that is no picture, and for a picture with no face, several faces, or a poor one.
    """
    picture, size = read_picture(path, settings.corpus.media), settings.crops.size
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


def read_picture(path: Path, limits: MediaSettings = DEFAULT_LIMITS) -> Frame:
    """The pixels of a picture file, upright: uint8 [H, W, 3] RGB; of a clip, those of its first frame.

    Raises CorruptFileError for a picture above `limits.pixels_a_picture`, before its pixels are unpacked.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > limits.pixels_a_picture:
                raise _too_large(path, f"{width} x {height} pixels")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise PrivFedTalkError(f"there is no picture {path}", "check the path given as --reference") from error
    except UnidentifiedImageError:
        return _first_frame(path, limits)
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 179 million pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptFileError(
            f"{path.name} cannot be read: {error}", "open it, save it anew, or copy it again"
        ) from error


def _too_large(path: Path, size: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path.name} has {size}",
        "give a smaller picture (a face of a few hundred pixels is enough), or raise "
        "preparation.corpus.media.pixels_a_picture",
    )


def _first_frame(path: Path, limits: MediaSettings) -> Frame:
    try:
        return next(open_video(path, limits).frames())
    except BeyondLimitError:
        raise
    except (CorruptFileError, StopIteration) as error:
        raise PrivFedTalkError(
            f"{path.name} is no picture that can be read, and no clip", "give a JPEG, PNG, WebP or TIFF file, or an MP4"
        ) from error


def read_speech(path: Path, settings: PreparationSettings) -> NDArray[np.int16]:
    """The voice in a WAV, an MP3, a clip, any file that FFmpeg reads: int16 [S], 16 kHz mono; silence is an error."""
    if not path.exists():
        raise PrivFedTalkError(f"there is no sound file {path}", "check the path given as --speech")
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
    return sound


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
