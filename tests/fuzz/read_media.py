"""Every way through the media door, and what holds of its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preparation.corpora.manifest import scan
from preparation.media.picture import open_picture
from preparation.media.rates import AUDIO_RATE_HZ
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.settings import CorpusKind, MediaSettings
from tests.fuzz.bounded import ends, result_of

LIMITS = MediaSettings(
    longest_gap_seconds=5, frames=1500, pixels=2 * 10**8, pixels_a_frame=2**20, pixels_a_picture=2**20
)
"""Bounds that made files reach: a minute of small pictures."""


def read_in_every_way(path: Path) -> int:
    """Read a file as clip, sound and picture and hold the results against the door's promises; how many could be
    read."""
    with ends():
        found = [_as_video(path), _as_sound(path), _as_picture(path), _as_corpus(path)]
    return sum(found)


def _as_video(path: Path) -> bool:
    video = result_of(lambda: open_video(path, LIMITS))
    if video is None:
        return False
    assert video.facts.frames > 0 and video.facts.seconds >= 0
    frames = result_of(lambda: list(video.frames()))
    shape = (video.facts.height, video.facts.width, 3)
    if frames is not None:
        assert 0 < len(frames) <= LIMITS.frames + 1
        assert {(frame.shape, frame.dtype) for frame in frames} == {(shape, np.dtype(np.uint8))}
        pictures = result_of(lambda: [np.asarray(each) for each in video.pictures()])
        assert pictures is not None and len(pictures) == len(frames)
        assert all(np.array_equal(one, other) for one, other in zip(frames, pictures, strict=True))
    for frame in result_of(lambda: list(video.span(0.1, 0.3))) or []:
        assert frame.shape == shape
    return frames is not None


def _as_sound(path: Path) -> bool:
    sound = result_of(lambda: open_sound(path, LIMITS))
    if sound is None:
        return False
    longest = round(LIMITS.longest_seconds * AUDIO_RATE_HZ) + AUDIO_RATE_HZ
    whole = result_of(lambda: sound.samples(AUDIO_RATE_HZ))
    for samples in (whole, result_of(lambda: sound.in_step(AUDIO_RATE_HZ))):
        _check_samples(samples, longest)
    part = result_of(lambda: sound.span(0.1, 0.35, AUDIO_RATE_HZ))
    _check_samples(part, AUDIO_RATE_HZ // 4)
    return whole is not None and len(whole) > 0


def _check_samples(samples: NDArray[np.int16] | None, longest: int) -> None:
    assert samples is None or (samples.dtype == np.int16 and samples.ndim == 1 and len(samples) <= longest)


def _as_picture(path: Path) -> bool:
    picture = result_of(lambda: open_picture(path, LIMITS))
    assert picture is None or (picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3)
    return picture is not None


def _as_corpus(path: Path) -> bool:
    """A folder's scan ends, and each file in it is a clip, a row, or no claim to be a clip."""
    found = scan(CorpusKind.FOLDER, path.parent)
    assert len(found.clips) + len(found.quarantine) <= 1
    assert all(row.reason and row.remedy for row in found.quarantine)
    return bool(found.clips)
