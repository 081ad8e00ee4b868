"""Decoded frames of a picture track: damaged ones are left out and counted, interlaced ones deinterlaced, and those of
another size or without square pixels are fitted into their clip's frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.video.reformatter import Interpolation, VideoReformatter

from preparation.media.container import bounded, opened
from preparation.media.conversions import Conversions
from preparation.media.limits import Meter
from preparation.media.track.damage import Damage
from preparation.media.track.display import Size, Turns, fitted, mark_turn, squared
from preparation.media.track.tones import is_beyond_709
from preparation.settings import MediaSettings


class Aspects:
    """The pixel aspect ratio, width / height, at any moment of a stream: the container's value, until the stream states
    another than at its start."""

    def __init__(self, stream: Any) -> None:
        self._codec = stream.codec_context
        self._at_start = self._latest = self._codec.sample_aspect_ratio
        self._declared = self._now = self._before = stream.sample_aspect_ratio or self._at_start or Fraction(1)
        self._inside, self._late = 0, 0

    def decoded(self, frames: Sequence[Any]) -> None:
        """Mark the frames of one more packet. Frames that the decoder held back keep the previous aspect ratio."""
        stated = self._codec.sample_aspect_ratio
        if stated != self._latest:
            self._latest, self._before = stated, self._now
            self._now = self._declared if stated == self._at_start else stated or Fraction(1)
            self._late = min(self._inside, self._codec.reorder_depth)
        self._inside += 1 - len(frames)
        for frame in frames:
            aspect, self._late = (self._before if self._late > 0 else self._now), self._late - 1
            if aspect != 1:
                # PyAV needs a separate object for each frame.
                frame.opaque = Fraction(aspect.numerator, aspect.denominator)


def aspect_of(frame: Any) -> Fraction:
    """The aspect ratio that `Aspects` marked a frame with; filters pass it on."""
    return frame.opaque or _SQUARE


_SQUARE = Fraction(1)


@dataclass
class Reading:
    """One pass through a file: the size of its shown frames, the conversions made, and the count of damage."""

    size: Size
    damage: Damage
    codec: str = ""
    made: Conversions = field(default_factory=Conversions)

    def note(self, **made: Any) -> None:
        self.made = self.made.with_those(Conversions(**made))


class First:
    """Finds the first frame of a file in a stream of packets; packets that cannot be decoded are skipped."""

    def __init__(self, stream: Any) -> None:
        self._aspects = Aspects(stream)
        self._frame: Any = None
        self.packets = 0
        """How many packets were decoded to find the frame."""

    def look(self, packet: Any) -> bool:
        """Try one more packet; return whether the frame is found, by this packet or an earlier one."""
        if self._frame is None:
            self.packets += bool(packet.size)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                _unless_out_of_memory(error)
            else:
                self._aspects.decoded(frames)
                self._frame = next(iter(frames), None)
        return self._frame is not None

    @property
    def frame(self) -> Any:
        """The frame; None where there is none."""
        return self._frame


def first_picture_seconds(path: Path, limits: MediaSettings) -> float:
    """The time of the first picture that can be decoded, seconds; 0 where there is none."""
    with opened(path, limits) as container:
        stream = bounded(container, path, limits).stream
        first = First(stream)
        for packet in whole_packets(container, stream, Meter(path, limits)):
            if first.look(packet):
                return float(first.frame.time or 0.0)
    return 0.0


def whole_packets(container: Any, stream: Any, meter: Meter) -> Iterator[Any]:
    """The following packets, within bounds, and last the empty one that makes a decoder return its last frames.

    Earlier empty packets mean dropped frames and are left out: a decoder would take each for the end.
    """
    last = None
    for number, packet in enumerate(container.demux(stream)):
        meter.packet(number)
        if packet.size:
            yield packet
        else:
            last = packet
    if last is not None:
        yield last


def decoded(container: Any, stream: Any, reading: Reading, meter: Meter) -> Iterator[Any]:
    """The frames of the following packets; packets that FFmpeg refuses are counted and left out."""
    aspects = Aspects(stream)
    for packet in whole_packets(container, stream, meter):
        try:
            frames = packet.decode()
        except FFmpegError as error:
            _unless_out_of_memory(error)
            reading.damage.error(error)
            continue
        finally:
            reading.damage.packet(bool(packet.size))
        aspects.decoded(frames)
        for frame in frames:
            reading.damage.frame(frame)
            yield frame
    reading.damage.end()


def sought(container: Any, stream: Any, seconds: float, reading: Reading, meter: Meter) -> Iterator[Any]:
    """Frames from the last key frame before `seconds` on, or from the beginning where the file's index is wrong."""
    container.seek(int(seconds / stream.time_base), stream=stream)
    frames = decoded(container, stream, reading, meter)
    first = next(frames, None)
    if first is None or first.time is None or first.time > seconds:
        container.seek(0)
        yield from decoded(container, stream, reading, meter)
        return
    yield first
    yield from frames


def _unless_out_of_memory(error: FFmpegError) -> None:
    if isinstance(error, MemoryError):
        raise error


def progressive(frames: Iterable[Any], reading: Reading) -> Iterator[Any]:
    """Deinterlace the frames that are flagged as interlaced; frames before the first of these pass unchanged."""
    graph, kind = None, None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        now = (frame.width, frame.height, frame.format.name)
        if now != kind:
            if graph is not None:
                yield from _rest(graph)
            graph, kind = _deinterlacer(frame), now
            reading.note(deinterlaced=True)
        assert graph is not None
        graph.vpush(frame)
        yield from _filtered(graph)
    if graph is not None:
        yield from _rest(graph)


def _deinterlacer(frame: Any) -> Any:
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        ),
        # Not yadif: of ten-bit pictures its first pixels of a line differ from reading to reading.
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _rest(graph: Any) -> Iterator[Any]:
    graph.vpush(None)
    yield from _filtered(graph)


def _filtered(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return


def conformed(frames: Iterable[Any], reading: Reading) -> Iterator[Any]:
    """The frames with square pixels, none larger than the clip's frame, each marked with its orientation; frames that
    need no scaling keep their pixels."""
    scaler, turns = VideoReformatter(), Turns(reading.codec)
    for frame in frames:
        turn, size = turns.of(frame), (frame.width, frame.height)
        if turn.turned or turn.mirrored:
            reading.note(turned=turn.turned, mirrored=turn.mirrored)
        if is_beyond_709(frame):
            reading.note(tone_mapped=True)
        square = squared(size, aspect_of(frame))
        if square != size:
            reading.note(squared=True)
        if turn.size(square) != reading.size:
            reading.note(resized=True)
            square = turn.size(fitted(turn.size(square), reading.size))
        if square != size:
            frame = _scaled(frame, square, scaler)
        mark_turn(frame, turn)
        yield frame


def _scaled(frame: Any, size: Size, scaler: VideoReformatter) -> Any:
    keeps = frame.format.name == "yuv420p" or is_beyond_709(frame)
    return scaler.reformat(frame, *size, None if keeps else "rgb24", interpolation=Interpolation.BICUBIC, threads=1)


def held(
    frames: Iterable[Any], step: float, meter: Meter, zero: float | None = None, last: float | None = None
) -> Iterator[tuple[Any, float]]:
    """Each frame with the time up to which it is the nearest one (seconds from `zero`, by default the first frame); the
    last frame is held as if it were shown again at `last`."""
    previous, previous_time = None, 0.0
    for frame in frames:
        time = float(frame.time) if frame.time is not None else None
        if previous is None:
            zero = (time or 0.0) if zero is None else zero
            previous, previous_time = frame, 0.0 if time is None else time - zero
            meter.frame(frame.width, frame.height, 0.0)
            continue
        assert zero is not None
        # Missing or backward timestamps happen in MPEG program streams: such a frame follows one step later.
        now = time - zero if time is not None and time - zero > previous_time else previous_time + step
        meter.gap(now - previous_time)
        meter.frame(frame.width, frame.height, now - previous_time)
        yield previous, (previous_time + now) / 2
        previous, previous_time = frame, now
    if previous is not None:
        until = previous_time if last is None or zero is None else max(previous_time, last - zero)
        yield previous, until + step / 2
