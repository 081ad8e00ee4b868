"""The frames of a clip: from any container to upright RGB with square pixels at a chosen rate.

    video = open_video(path)
    for frame in video.frames(): ...

Time zero is the first video frame that can be decoded. Frames are streamed, so memory does not grow with the clip's
length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError
from preparation.media.container import DEFAULT_LIMITS, PLAY_IT, RE_ENCODE, bounded, opened, sound_track
from preparation.media.conversions import Conversions
from preparation.media.limits import Meter
from preparation.media.rates import FPS
from preparation.media.track.damage import Damage
from preparation.media.track.decoding import (
    First,
    Reading,
    aspect_of,
    conformed,
    decoded,
    held,
    progressive,
    sought,
    whole_packets,
)
from preparation.media.track.display import UPRIGHT, Size, orientation, squared
from preparation.media.track.frames import Box, Frame, Painter, Picture
from preparation.media.track.index import Index, Indexer
from preparation.media.track.tones import is_beyond_709
from preparation.settings import MediaSettings


@dataclass(frozen=True)
class Facts:
    """What a clip holds, at the source's own rate and in the size at which it is shown: upright, with square pixels.

    audio_rate_hz 0 means no sound.
    """

    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    audio_rate_hz: int


def open_video(
    path: Path, limits: MediaSettings = DEFAULT_LIMITS, note: Callable[[Any], None] = lambda packet: None
) -> Video:
    """Read headers, packet index and first picture, and check that the file holds what its header says, within bounds.

    `note` is called with each packet of the picture track (PyAV's).

    Raises CorruptFileError for a file without pictures that can be decoded, and for one beyond `limits`.
    """
    meter = Meter(path, limits)
    with opened(path, limits) as container:
        stream, number = bounded(container, path, limits)
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise CorruptFileError(f"{path.name} is a picture, not a clip", remedy="remove it, or give the clip itself")
        indexer, first = Indexer(container, stream, path, meter), First(stream)
        for packet in whole_packets(container, stream, meter):
            note(packet)
            indexer.note(packet)
            first.look(packet)
        index, frame = indexer.index(), first.frame
        if frame is None:
            raise CorruptFileError(
                f"{path.name}: none of its {index.frames} pictures can be decoded ({stream.name})",
                remedy=f"{PLAY_IT}, or {RE_ENCODE}",
            )
        turn = orientation(frame, stream.codec_context.name) or UPRIGHT
        square = squared((frame.width, frame.height), aspect_of(frame))
        width, height = turn.size(square)
        meter.size(width, height)
        meter.pixels(float(width) * height * max(index.frames, index.seconds * FPS))
        damage = Damage(path, limits, index, stream.codec_context)
        damage.packet(first.packets - 1)
        damage.begin(frame.time)
        made = Conversions(
            picture_track=number,
            deinterlaced=bool(frame.interlaced_frame),
            tone_mapped=is_beyond_709(frame),
            turned=turn.turned,
            mirrored=turn.mirrored,
            squared=square != (frame.width, frame.height),
            lost_frames=damage.lost,
        )
        rate, made = _sound(container, path, made)
        facts = Facts(index.frames, index.fps, width, height, index.seconds, rate)
        return Video(path, limits, facts, made, index, frame.time, str(container.metadata.get("comment", "")))


def _sound(container: Any, path: Path, made: Conversions) -> tuple[int, Conversions]:
    """The sound's rate, hertz, and the conversions with the sound track's number; 0 where there is no sound.

    Sound that cannot be decoded counts as none here and is refused where it is read.
    """
    try:
        track = sound_track(container, path)
    except CorruptFileError:
        return 0, made
    if track is None:
        return 0, made
    return int(track.stream.rate or 0), replace(made, sound_track=track.number)


class Video:
    """A clip that can be read as often as needed; made by `open_video`.

    Every reader raises CorruptFileError at the first frame that passes a bound, or when too many are damaged.
    """

    facts: Facts
    conversions: Conversions
    """The conversions known so far: from headers and the first picture, and from what has been read since."""
    comment: str
    """The comment in the container's metadata."""

    def __init__(
        self,
        path: Path,
        limits: MediaSettings,
        facts: Facts,
        made: Conversions,
        index: Index,
        zero: float | None,
        comment: str,
    ) -> None:
        self.path, self.facts, self.conversions, self.comment = path, facts, made, comment
        self._limits, self._index, self._zero = limits, index, zero

    def frames(self, fps: float = FPS, threads: int = 1) -> Iterator[Frame]:
        """Yield RGB frames at `fps`, each the source frame nearest in time (repeated or dropped as needed).

        Choose one thread in worker processes that each decode a clip of their own, more for a single long clip.
        """
        painter, emitted = self._painter(), 0
        with self._held(threads) as frames:
            for frame, until in frames:
                if emitted / fps >= until:
                    continue
                picture = painter.upright(frame)
                while emitted / fps < until:
                    yield picture
                    emitted += 1

    def pictures(self, fps: float = FPS) -> Iterator[Picture]:
        """The same frames before their conversion to RGB: for large frames, of which few are used."""
        painter, emitted = self._painter(), 0
        with self._held() as frames:
            for frame, until in frames:
                while emitted / fps < until:
                    yield Picture(frame, painter)
                    emitted += 1

    def parts(self, parts: Sequence[Box | None], fps: float = FPS) -> Iterator[Frame]:
        """The first len(parts) frames, with right pixels only inside parts[f], as far as it is in the picture; nowhere
        for None. All frames are one array, which is overwritten: use each before asking for the next."""
        canvas: Frame | None = None
        for box, picture in zip(parts, self.pictures(fps), strict=False):
            if box is not None:
                canvas = picture.draw(box, canvas)
            yield np.zeros((picture.height, picture.width, 3), np.uint8) if canvas is None else canvas

    def span(self, start_seconds: float, end_seconds: float, fps: float = FPS) -> Iterator[Frame]:
        """The frames of a part of a long video; earlier frames are skipped by a seek, not decoded.

        Frame f is the source frame nearest to start_seconds + f / fps. A video that ends earlier yields fewer frames.
        """
        painter, total, emitted = self._painter(), round((end_seconds - start_seconds) * fps), 0
        with self._held(start_seconds=start_seconds) as frames:
            for frame, until in frames:
                while emitted < total and start_seconds + emitted / fps < until:
                    yield painter.upright(frame)
                    emitted += 1
                if emitted == total:
                    return

    def all(self, fps: float = FPS) -> NDArray[np.uint8]:
        """All frames of a short clip at once: uint8 [T, H, W, 3]."""
        return np.stack(list(self.frames(fps)))

    @property
    def _size(self) -> Size:
        return self.facts.width, self.facts.height

    def _painter(self) -> Painter:
        return Painter(self._size)

    @contextmanager
    def _held(self, threads: int = 1, start_seconds: float = 0.0) -> Iterator[Iterator[tuple[Any, float]]]:
        """Frames, each with the time up to which it is the nearest one, from the start or from `start_seconds` on."""
        path, limits = self.path, self._limits
        with opened(path, limits) as container:
            stream = bounded(container, path, limits).stream
            stream.thread_count = threads
            step = min(1.0 / float(stream.average_rate or stream.guessed_rate or FPS), limits.longest_gap_seconds)
            meter, damage = Meter(path, limits), Damage(path, limits, self._index, stream.codec_context)
            reading = Reading(self._size, damage, stream.codec_context.name)
            zero = self._zero or 0.0
            if start_seconds > 0:
                frames = sought(container, stream, zero + start_seconds, reading, meter)
            else:
                damage.begin(self._zero)
                frames = decoded(container, stream, reading, meter)
            frames = conformed(progressive(frames, reading), reading)
            try:
                yield held(frames, step, meter, zero, self._index.held_until)
            finally:
                reading.note(lost_frames=damage.lost)
                self.conversions = self.conversions.with_those(reading.made)
