"""Whether a clip's sound belongs to its lips, measured with the active-speaker network while the crop is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from preparation.crops.quality import Verdict
from preparation.media.rates import FPS, SAMPLES_PER_FRAME
from preparation.media.track.frames import Frame
from preparation.settings.checks import SyncSettings

if TYPE_CHECKING:
    from preparation.crops.active_speaker import ActiveSpeaker


CONTRAST_SECONDS = 3.0
"""Shorter stretches are not refused for their contrast. Of 100 clips of 1.2 s of ten news readers it is -0.12 to 0.80
with their own sound (below 0.2 for 40 %) and -0.44 to 0.72 with another clip's (below 0.2 for 50 %): too alike to
judge by. The score of these clips is -0.42 to 1.82, with a frozen face -2.97 to -2.36."""


@dataclass(frozen=True)
class Sync:
    """score: mean speaking logit. contrast: how far it falls, on average, when the sound is moved by a quarter, a half
    and three quarters of the stretch. offset: frames by which the sound seems late; None where it was not measured.
    seconds: how long the stretch is."""

    score: float
    contrast: float
    offset: int | None = None
    seconds: float = CONTRAST_SECONDS


class Watch:
    """Collects the network's views of a clip's crops while they are written: at most `seconds` from the middle."""

    def __init__(self, speaker: ActiveSpeaker, settings: SyncSettings, frames: int) -> None:
        length = min(frames, round(settings.seconds * FPS))
        self._speaker, self._settings = speaker, settings
        self._start = (frames - length) // 2
        self._stop = self._start + length
        self._views: list[NDArray[np.uint8]] = []

    def through(self, crops: Iterable[Frame]) -> Iterator[Frame]:
        """The same crops, unchanged."""
        # The network is loaded, so torch is imported already; without the sync filter it never is.
        from preparation.crops.active_speaker import view

        for index, crop in enumerate(crops):
            if self._start <= index < self._stop:
                self._views.append(view(crop))
            yield crop

    def measure(self, audio: NDArray[np.int16]) -> Sync:
        """Compare the collected views with the clip's sound, int16 [640 T]."""
        stretch = audio[self._start * SAMPLES_PER_FRAME : self._stop * SAMPLES_PER_FRAME]
        return measure(self._speaker, np.stack(self._views), stretch, self._settings.scan_frames)


def measure(speaker: ActiveSpeaker, faces: NDArray[np.uint8], audio: NDArray[np.int16], scan_frames: int = 0) -> Sync:
    """Score, contrast and, with `scan_frames` > 0 and a clip that is long enough, offset of faces [T, 112, 112] and
    their sound [640 T]. Faces and sound are encoded once."""
    seen, heard = speaker.encode(faces, audio)
    score, *moved = speaker.rolled(seen, heard, [0, len(seen) // 4, len(seen) // 2, 3 * len(seen) // 4])
    offset = None
    if scan_frames > 0 and len(seen) >= 2 * scan_frames + FPS:
        offset = int(speaker.scan(seen, heard, scan_frames).argmax()) - scan_frames
    return Sync(score, score - float(np.mean(moved)), offset, len(seen) / FPS)


def judge(sync: Sync, settings: SyncSettings) -> Verdict | None:
    """The reason to leave the clip out, or None."""
    if sync.score < settings.minimum_score:
        return Verdict(
            f"nobody seems to speak: mean speaking logit {sync.score:.2f}, {settings.minimum_score:.2f} is needed",
            "check that the face seen is the one heard, or lower sync.minimum_score",
        )
    if sync.seconds >= CONTRAST_SECONDS and sync.contrast < settings.minimum_contrast:
        return Verdict(
            f"the sound does not belong to the lips: moved sound lowers the speaking logit {sync.score:.2f} by only "
            f"{sync.contrast:.2f}, {settings.minimum_contrast:.2f} is needed",
            "check that the clip has its own sound, or lower sync.minimum_contrast",
        )
    if settings.maximum_offset is not None and sync.offset is not None and abs(sync.offset) > settings.maximum_offset:
        return Verdict(
            f"the sound seems {sync.offset} frames late (speaking logit {sync.score:.2f}), "
            f"{settings.maximum_offset} are allowed either way",
            "move the clip's sound, or raise sync.maximum_offset",
        )
    return None
