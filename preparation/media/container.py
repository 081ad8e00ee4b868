"""Opening a container: whatever FFmpeg says on the way becomes an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from preparation.errors import CorruptFileError
from preparation.media.limits import Meter, check_format, open_options
from preparation.settings import MediaSettings

DEFAULT_LIMITS = MediaSettings()
"""How much a file may hold where nobody says otherwise."""

PLAY_IT = "play it to see whether it is whole; if it is not, copy or download it again"


@contextmanager
def opened(path: Path, limits: MediaSettings) -> Iterator[Any]:
    """Open a container; whatever FFmpeg says on the way becomes an error that names the file."""
    try:
        with av.open(str(path), metadata_errors="replace", options=open_options(limits)) as container:
            check_format(container.format.name, path)
            yield container
    except FFmpegError as error:
        raise CorruptFileError(f"{path.name} cannot be decoded: {error.strerror}", remedy=PLAY_IT) from error


def video_stream(container: Any, path: Path) -> Any:
    # A cover picture inside a sound file is a video stream of one frame, not a talking head.
    streams = [s for s in container.streams.video if not (s.disposition & av.stream.Disposition.attached_pic)]
    if not streams:
        raise CorruptFileError(f"{path.name} has no video track", remedy="give a clip with picture and sound")
    return streams[0]


def bounded(container: Any, path: Path, limits: MediaSettings) -> Any:
    """The video stream, its decoder told to refuse frames above the bound before it makes room for them."""
    stream = video_stream(container, path)
    Meter(path, limits).size(int(stream.width), int(stream.height))
    stream.codec_context.options = {"max_pixels": str(limits.pixels_a_frame)}
    return stream


def sought(container: Any, stream: Any, seconds: float) -> Iterator[Any]:
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


def first_picture_seconds(path: Path, limits: MediaSettings) -> float:
    with opened(path, limits) as container:
        for frame in container.decode(bounded(container, path, limits)):
            return float(frame.time or 0.0)
    return 0.0
