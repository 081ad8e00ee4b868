"""A clip's frames while its crop is made: read to find scenes and the face, and read again to cut the crops.

Clips whose frames fit in memory are decoded once and held. Of larger clips, the parts that the crops will be cut from
are kept while the face is followed. Their exact boxes are known only when the whole clip has been followed and its
landmarks are smoothed, but nearly known as soon as the face is found. Where these parts do not fit either, the clip is
decoded again, so that memory stays bounded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

from preparation.corpora.clip import Clip
from preparation.faces.alignment import fit_transforms, source_boxes
from preparation.faces.landmarks import Landmarks
from preparation.faces.track import Seen
from preparation.media.rates import FPS
from preparation.media.track.frames import Box, Frame, Picture
from preparation.media.video import Video, open_video
from preparation.settings import CropSettings, PreparationSettings

HELD_BYTES = 256 * 1024 * 1024
"""How much of one clip's pictures may be held."""
MARGIN = 0.125
"""How much wider a kept part is on each side than the crop seems to need, as a share of its width."""

FIRST_PICTURES, SURE = 100, 2.0
"""How many pictures are kept before the bytes of all are estimated, and how many times the limit an estimate must be
for the keeper to give up."""


class Footage(Protocol):
    """The frames of a clip."""

    video: Video
    seen: Seen | None
    """The callback for a tracker that reads `watched`; see `preparation.faces.track.Seen`."""

    def pictures(self) -> Iterable[Frame | Picture]:
        """All frames, from the start."""
        ...

    def watched(self) -> Iterable[Frame | Picture]:
        """All frames, once, for the tracker."""
        ...

    def parts(self, kept: slice, boxes: Sequence[Box | None]) -> Iterable[Frame]:
        """Those of the frames `kept` that have a box, with right pixels at least inside it; use each before asking for
        the next."""
        ...


def open_footage(clip: Clip, source: Path, settings: PreparationSettings) -> Footage:
    """The frames of a clip. Those without a face that are bridged (`faces.longest_bridged_gap`) are kept too, because
    crops are cut there as well."""
    video = open_video(source, settings.corpus.media)
    facts = video.facts
    if facts.seconds * FPS * facts.width * facts.height * 3 <= HELD_BYTES:
        return _Held(video)
    count = round(facts.seconds * FPS)
    return _Streamed(video, Keeper(settings.crops, settings.faces.longest_bridged_gap, HELD_BYTES, count))


class _Held:
    seen: Seen | None = None

    def __init__(self, video: Video) -> None:
        self.video = video
        self._frames: list[Frame] = []

    def pictures(self) -> list[Frame]:
        if not self._frames:
            self._frames.extend(self.video.frames())
        return self._frames

    watched = pictures

    def parts(self, kept: slice, boxes: Sequence[Box | None]) -> list[Frame]:
        return [frame for frame, box in zip(self.pictures()[kept], boxes, strict=False) if box is not None]


class _Streamed:
    def __init__(self, video: Video, keeper: Keeper) -> None:
        self.video, self._keeper = video, keeper
        self.seen: Seen | None = keeper.seen

    def pictures(self) -> Iterator[Picture]:
        return self.video.pictures()

    def watched(self) -> Iterator[Picture]:
        return self._keeper.through(self.pictures())

    def parts(self, kept: slice, boxes: Sequence[Box | None]) -> Iterator[Frame]:
        parts = self._keeper.parts(kept, boxes)
        if parts is None:
            whole = islice(self.video.parts([*[None] * kept.start, *boxes]), kept.start, None)
            parts = (frame for frame, box in zip(whole, boxes, strict=False) if box is not None)
        return parts


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can (glibc). By itself it keeps most of the memory that
    pictures had, because they are many and small."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Keeper:
    """Keeps the part around the face of each picture that a face tracker reads; beyond `limit_bytes` it gives up.

    Between two detections the part spans both faces. Gaps of more than `longest_gap` pictures are not kept, because no
    crop is cut there. Where the first of `count` pictures show that all of them will not fit, it gives up at once,
    because memory that was taken in many small pieces is hardly given back to the system.
    """

    def __init__(self, crops: CropSettings, longest_gap: int, limit_bytes: int, count: int) -> None:
        self._crops, self._longest_gap, self._limit_bytes, self._count = crops, longest_gap, limit_bytes, count
        self._kept: list[Picture | None] = []
        self._waiting: list[Picture] = []
        self._box: Box | None = None
        self._bytes = 0
        self._gave_up = False

    def through(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """The same pictures. Each is whole until the next one is asked for."""
        for picture in pictures:
            if not self._gave_up:
                self._waiting.append(picture)
                if len(self._waiting) > self._longest_gap + 1:
                    self._let_go(len(self._waiting) - 1)
            yield picture

    def seen(self, landmarks: Landmarks | None) -> None:
        """Take the face [68, 2] that was found in the latest picture, or None."""
        if landmarks is None or self._gave_up:
            return
        box = self._around(landmarks)
        if self._box is None:
            self._let_go(len(self._waiting) - 1)
        part = box if self._box is None else _both(box, self._box)
        for picture in self._waiting:
            picture.trim(part)
            self._bytes += picture.bytes
        self._kept += self._waiting
        self._waiting, self._box = [], box
        if self._bytes > self._limit_bytes or self._expected_bytes() > SURE * self._limit_bytes:
            self._gave_up, self._kept = True, []

    def _expected_bytes(self) -> float:
        """The bytes of all pictures, estimated from those so far; 0 before there are `FIRST_PICTURES`."""
        so_far = len(self._kept)
        return self._bytes / so_far * self._count if so_far >= FIRST_PICTURES else 0.0

    def parts(self, kept: slice, boxes: Sequence[Box | None]) -> Iterator[Frame] | None:
        """Frames of those of the pictures `kept` that have a box, with right pixels inside it, in one array that is
        overwritten for each; None where not all of these pixels were kept."""
        wanted = [(picture, box) for picture, box in zip(self._kept[kept], boxes, strict=False) if box is not None]
        held = [(picture, box) for picture, box in wanted if picture is not None]
        if len(held) < sum(box is not None for box in boxes) or not all(picture.covers(box) for picture, box in held):
            return None
        return _drawn(held)

    def _around(self, landmarks: Landmarks) -> Box:
        left, top, right, bottom = source_boxes(fit_transforms(landmarks[None], self._crops), self._crops.size)[0]
        wider = round(MARGIN * (right - left))
        return left - wider, top - wider, right + wider, bottom + wider

    def _let_go(self, count: int) -> None:
        """Drop the first `count` waiting pictures: they are outside every stretch with a face."""
        self._kept += [None] * count
        del self._waiting[:count]
        self._box = None


def _drawn(held: list[tuple[Picture, Box]]) -> Iterator[Frame]:
    canvas: Frame | None = None
    for picture, box in held:
        canvas = picture.draw(box, canvas)
        yield canvas


def _both(one: Box, other: Box) -> Box:
    return (*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:]))  # type: ignore[return-value]
