"""Clips in and out: any container to RGB frames at 25 fps and 16 kHz mono sound, and back to mp4 (PyAV).

Time zero is the first video frame. Frames are streamed, so memory does not grow with the clip's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from preparation.errors import CorruptFileError
from preparation.files import replacing
from preparation.h264 import x264_options
from preparation.media_limits import Meter, check_format, check_sound, longest_gap, open_options
from preparation.pictures import Box, Frame, Painter, Picture
from preparation.settings import MediaSettings

FPS = 25
AUDIO_RATE_HZ = 16_000
SAMPLES_PER_FRAME = AUDIO_RATE_HZ // FPS
DEFAULT_LIMITS = MediaSettings()
"""How much a file may hold where nobody says otherwise."""

_BROKEN = "play it to see whether it is whole; if it is not, copy or download it again"


@dataclass(frozen=True)
class Probe:
    """What a container holds, in the source's own rate and size; audio_rate_hz 0 means no sound."""

    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    audio_rate_hz: int


def probe(path: Path, limits: MediaSettings = DEFAULT_LIMITS) -> Probe:
    """Read headers and packet index (not the pictures) and check that the file holds what it promises, within bounds.

    `seconds` is what the frames last by their number and rate, or by their timestamps where those say longer.
    """
    meter = Meter(path, limits)
    with _opened(path, limits) as container:
        video = _video_stream(container, path)
        meter.size(int(video.width), int(video.height))
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise CorruptFileError(f"{path.name} is a picture, not a clip", remedy="remove it, or give the clip itself")
        declared = int(video.frames)
        packets, times = 0, []
        for number, packet in enumerate(container.demux(video)):
            meter.packet(number)
            if packet.size:
                packets += 1
                if packet.pts is not None:
                    times.append(packet.pts)
        if packets == 0:
            raise CorruptFileError(f"{path.name} holds no picture", remedy=_BROKEN)
        if declared > 1.02 * packets + 2:
            raise CorruptFileError(
                f"{path.name} promises {declared} frames and holds {packets}: it is truncated", remedy=_BROKEN
            )
        fps = float(video.average_rate or video.guessed_rate or FPS)
        base = video.time_base or 0
        seconds = max(packets / fps, float((max(times) - min(times)) * base) if times else 0.0)
        meter.gap(longest_gap(times, base))
        meter.total(packets, seconds)
        meter.pixels(float(video.width) * video.height * max(packets, seconds * FPS))
        audio = container.streams.audio
        return Probe(
            frames=packets,
            fps=round(fps, 6),
            width=int(video.width),
            height=int(video.height),
            seconds=round(seconds, 6),
            audio_rate_hz=int(audio[0].rate or 0) if audio else 0,
        )


def decode(path: Path, fps: float = FPS, threads: int = 1, limits: MediaSettings = DEFAULT_LIMITS) -> Iterator[Frame]:
    """Yield RGB frames at `fps`, each the source frame nearest in time (repeated or dropped as needed).

    One thread suits worker processes that each decode a clip of their own; more help a single long clip.
    Raises CorruptFileError at the first frame that passes a bound of `limits`, as the other readers here do.
    """
    with _opened(path, limits) as container:
        stream = _bounded(container, path, limits)
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
    with _opened(path, limits) as container:
        stream = _bounded(container, path, limits)
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
    zero = _first_picture_seconds(path, limits)
    with _opened(path, limits) as container:
        stream = _bounded(container, path, limits)
        step, frames = _step(stream, limits), container.decode(stream)
        if start_seconds > 0:
            frames = _sought(container, stream, zero + start_seconds)
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
        raise CorruptFileError(f"{path.name} holds no picture", remedy=_BROKEN)
    return np.stack(frames)


def decode_audio_span(
    path: Path,
    start_seconds: float,
    end_seconds: float,
    rate_hz: int = AUDIO_RATE_HZ,
    limits: MediaSettings = DEFAULT_LIMITS,
) -> NDArray[np.int16]:
    """The sound of a part of a long video: int16 [(end - start) * rate], mono; empty where there is none at all.

    Where the track is silent by absence (it starts later, ends earlier), zeros keep sound and pictures together.
    """
    check_sound(path, end_seconds - start_seconds, limits)
    start = _first_picture_seconds(path, limits) + start_seconds
    samples = round((end_seconds - start_seconds) * rate_hz)
    with _opened(path, limits) as container:
        if not container.streams.audio:
            return np.zeros(0, dtype=np.int16)
        stream = container.streams.audio[0]
        # A little earlier, because a lossy codec needs the packet before to restore the first one rightly.
        frames = _sought(container, stream, max(0.0, start - 0.5)) if start_seconds > 0 else container.decode(stream)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
        first: float | None = None
        seconds = 0.0
        parts: list[NDArray[np.int16]] = []
        for frame in frames:
            first = float(frame.time or 0.0) if first is None else first
            seconds += frame.samples / frame.sample_rate
            check_sound(path, seconds, limits)
            parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
            if frame.time is not None and float(frame.time) > start + samples / rate_hz:
                break
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    sound = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)
    offset = round((start - (start if first is None else first)) * rate_hz)
    lead = np.zeros(min(max(0, -offset), samples), dtype=np.int16)
    sound = sound[offset:] if offset >= 0 else np.concatenate([lead, sound])
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def decode_audio(path: Path, rate_hz: int = AUDIO_RATE_HZ, limits: MediaSettings = DEFAULT_LIMITS) -> NDArray[np.int16]:
    """The sound from the first video frame on: int16 [S], mono, at `rate_hz`; empty where there is none.

    A track that starts later than the pictures is led in by silence; one that starts earlier is cut.
    """
    with _opened(path, limits) as container:
        if not container.streams.audio:
            return np.zeros(0, dtype=np.int16)
        start, sound = _mono(container, path, rate_hz, limits)
    late = start - _first_picture_seconds(path, limits)
    check_sound(path, late, limits)
    offset = round(late * rate_hz)
    if offset > 0:
        return np.concatenate([np.zeros(offset, dtype=np.int16), sound])
    return sound[-offset:]


def decode_sound(path: Path, rate_hz: int = AUDIO_RATE_HZ, limits: MediaSettings = DEFAULT_LIMITS) -> NDArray[np.int16]:
    """The sound of a file that need not have pictures, from its own start: int16 [S], mono; empty where it has none."""
    with _opened(path, limits) as container:
        if not container.streams.audio:
            return np.zeros(0, dtype=np.int16)
        return _mono(container, path, rate_hz, limits)[1]


def _mono(container: Any, path: Path, rate_hz: int, limits: MediaSettings) -> tuple[float, NDArray[np.int16]]:
    """When the sound track starts, seconds, and the whole of it, int16 [S]."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
    start: float | None = None
    seconds = 0.0
    parts: list[NDArray[np.int16]] = []
    for frame in container.decode(container.streams.audio[0]):
        if start is None:
            start = float(frame.time or 0.0)
        # Before resampling: at a rate of 1 Hz a kilobyte becomes minutes.
        seconds += frame.samples / frame.sample_rate
        check_sound(path, seconds, limits)
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    return start or 0.0, np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


def fit_audio(audio: NDArray[np.int16], frames: int) -> NDArray[np.int16]:
    """Cut or pad sound (with silence) to exactly `frames` pictures: int16 [frames * 640]."""
    samples = frames * SAMPLES_PER_FRAME
    return np.pad(audio[:samples], (0, max(0, samples - len(audio))))


def encode(frames: Iterable[Frame], audio: NDArray[np.int16] | None, path: Path, crf: int = 18, fps: int = FPS) -> None:
    """Write H.264 + AAC to an mp4, whole or not at all. Width and height must be even.

    frames: uint8 [H, W, 3] each, RGB; audio: int16 [S], 16 kHz mono, or None. One thread, so that the same
    input gives the same bytes and worker processes do not crowd each other.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    assert first is not None, "a clip has at least one frame"
    with replacing(path) as partial:
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
                video = container.add_stream("libx264", rate=fps, options=x264_options(crf))
                video.height, video.width = first.shape[:2]
                video.pix_fmt = "yuv420p"
                video.thread_count = 1
                sound = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono") if audio is not None else None
                for index, picture in enumerate(chain([first], iterator)):
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, fps)
                    container.mux(video.encode(frame))
                container.mux(video.encode(None))
                if sound is not None and audio is not None:
                    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio)[None], format="s16", layout="mono")
                    block.sample_rate, block.pts = AUDIO_RATE_HZ, 0
                    container.mux(sound.encode(block))
                    container.mux(sound.encode(None))
        except FFmpegError as error:
            # What was read is checked where it is read; here it is the disk that refuses.
            raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _opened(path: Path, limits: MediaSettings) -> Iterator[Any]:
    """Open a container; whatever FFmpeg says on the way becomes an error that names the file."""
    try:
        with av.open(str(path), metadata_errors="replace", options=open_options(limits)) as container:
            check_format(container.format.name, path)
            yield container
    except FFmpegError as error:
        raise CorruptFileError(f"{path.name} cannot be decoded: {error.strerror}", remedy=_BROKEN) from error


def _video_stream(container: Any, path: Path) -> Any:
    # A cover picture inside a sound file is a video stream of one frame, not a talking head.
    streams = [s for s in container.streams.video if not (s.disposition & av.stream.Disposition.attached_pic)]
    if not streams:
        raise CorruptFileError(f"{path.name} has no video track", remedy="give a clip with picture and sound")
    return streams[0]


def _bounded(container: Any, path: Path, limits: MediaSettings) -> Any:
    """The video stream, its decoder told to refuse frames above the bound before it makes room for them."""
    stream = _video_stream(container, path)
    Meter(path, limits).size(int(stream.width), int(stream.height))
    stream.codec_context.options = {"max_pixels": str(limits.pixels_a_frame)}
    return stream


def _step(stream: Any, limits: MediaSettings) -> float:
    """Seconds from one source frame to the next, as the container says; a header that lies can claim no more than the
    longest gap."""
    return min(1.0 / float(stream.average_rate or stream.guessed_rate or FPS), limits.longest_gap_seconds)


def _sought(container: Any, stream: Any, seconds: float) -> Iterator[Any]:
    """Frames from the last key frame before `seconds` on, or from the beginning where the file's index misleads."""
    container.seek(int(seconds / stream.time_base), stream=stream)
    frames = container.decode(stream)
    first = next(frames, None)
    if first is None or first.time is None or first.time > seconds:
        container.seek(0)
        yield from container.decode(stream)
        return
    yield first
    yield from frames


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


def _first_picture_seconds(path: Path, limits: MediaSettings) -> float:
    with _opened(path, limits) as container:
        for frame in container.decode(_bounded(container, path, limits)):
            return float(frame.time or 0.0)
    return 0.0
