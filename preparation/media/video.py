"""The frames of a clip: any container to RGB at the rate asked for.

Time zero is the first video frame. Frames are streamed, so memory does not grow with the clip's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from preparation.errors import CorruptFileError
from preparation.media.container import DEFAULT_LIMITS, PLAY_IT, bounded, first_picture_seconds, opened, sought
from preparation.media.frames import Box, Frame, Painter, Picture
from preparation.media.limits import Meter
from preparation.media.rates import FPS
from preparation.settings import MediaSettings


def decode(path: Path, fps: float = FPS, threads: int = 1, limits: MediaSettings = DEFAULT_LIMITS) -> Iterator[Frame]:
    """Yield RGB frames at `fps`, each the source frame nearest in time (repeated or dropped as needed).

    One thread suits worker processes that each decode a clip of their own; more help a single long clip.
    Raises CorruptFileError at the first frame that passes a bound of `limits`, as the other readers here do.
    """
    with opened(path, limits) as container:
        stream = bounded(container, path, limits)
        stream.thread_count = threads
        painter, emitted = Painter(), 0
        for frame, until in _held_frames(container.decode(stream), _step(stream, limits), path, limits):
            if emitted / fps >= until:
                continue
            picture = painter.upright(frame)
            while emitted / fps < until:
                yield picture
                emitted += 1


def decode_pictures(path: Path, fps: float = FPS, limits: MediaSettings = DEFAULT_LIMITS) -> Iterator[Picture]:
    """The frames that `decode` yields before their conversion to RGB: for large ones, few of which are looked at."""
    with opened(path, limits) as container:
        stream = bounded(container, path, limits)
        stream.thread_count = 1
        painter, emitted = Painter(), 0
        for frame, until in _held_frames(container.decode(stream), _step(stream, limits), path, limits):
            while emitted / fps < until:
                yield Picture(frame, painter)
                emitted += 1


def decode_parts(
    path: Path, parts: Sequence[Box | None], fps: float = FPS, limits: MediaSettings = DEFAULT_LIMITS
) -> Iterator[Frame]:
    """The first len(parts) frames as `decode` yields them, but true only inside parts[f], as far as that lies in
    the picture; None is nowhere. All frames are one array, written over; look at each before the next."""
    canvas: Frame | None = None
    for box, picture in zip(parts, decode_pictures(path, fps, limits), strict=False):
        if box is not None:
            canvas = picture.draw(box, canvas)
        yield np.zeros((picture.height, picture.width, 3), np.uint8) if canvas is None else canvas


def decode_span(
    path: Path,
    start_seconds: float,
    end_seconds: float,
    fps: float = FPS,
    deinterlace: bool = True,
    limits: MediaSettings = DEFAULT_LIMITS,
) -> Iterator[Frame]:
    """The frames of a part of a long video, as `decode` yields them; what lies before is sought past, not decoded.

    Frame f of it is the source frame nearest to start_seconds + f / fps. Interlaced pictures are made progressive.
    A video that ends earlier yields fewer frames.
    """
    zero = first_picture_seconds(path, limits)
    with opened(path, limits) as container:
        stream = bounded(container, path, limits)
        step, frames = _step(stream, limits), container.decode(stream)
        if start_seconds > 0:
            frames = sought(container, stream, zero + start_seconds)
        if deinterlace:
            frames = _progressive(frames, stream)
        painter, total, emitted = Painter(), round((end_seconds - start_seconds) * fps), 0
        for frame, until in _held_frames(frames, step, path, limits, zero):
            while emitted < total and start_seconds + emitted / fps < until:
                yield painter.upright(frame)
                emitted += 1
            if emitted == total:
                return


def decode_all(path: Path, fps: float = FPS, limits: MediaSettings = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """All frames of a short clip at once: uint8 [T, H, W, 3]."""
    frames = list(decode(path, fps, limits=limits))
    if not frames:
        raise CorruptFileError(f"{path.name} holds no picture", remedy=PLAY_IT)
    return np.stack(frames)


def _step(stream: Any, limits: MediaSettings) -> float:
    """Seconds from one source frame to the next, as the container says; a header that lies can claim no more than the
    longest gap."""
    return min(1.0 / float(stream.average_rate or stream.guessed_rate or FPS), limits.longest_gap_seconds)


def _progressive(frames: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Deinterlace the frames whose stream says that they are interlaced; others pass unchanged."""
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        return
    if not first.interlaced_frame:
        yield first
        yield from iterator
        return
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream, time_base=stream.time_base),
        graph.add("yadif", "deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    for frame in chain([first], iterator):
        graph.vpush(frame)
        yield from _pulled(graph)
    graph.vpush(None)
    yield from _pulled(graph)


def _pulled(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return


def _held_frames(
    frames: Iterable[Any], step: float, path: Path, limits: MediaSettings, zero: float | None = None
) -> Iterator[tuple[Any, float]]:
    """Each frame with the time (seconds from `zero`, by default the first frame) up to which it is the nearest one."""
    meter = Meter(path, limits)
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
        yield previous, previous_time + step / 2
