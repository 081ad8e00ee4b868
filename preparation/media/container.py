"""Open a container and choose its tracks; any error of FFmpeg becomes an error that names the file."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.error import FFmpegError
from av.stream import Disposition

from common.errors import CorruptFileError, PrivFedTalkError
from common.text.foreign import one_line
from preparation.media.limits import PATIENCE_SECONDS, Meter, check_format, open_options
from preparation.settings import MediaSettings

DEFAULT_LIMITS = MediaSettings()
"""The default limits on what one file may hold."""

PLAY_IT = "play it to see whether it is whole; if it is not, copy or download it again"
RE_ENCODE = "re-encode it as H.264 and AAC (`ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4`)"

MARGIN_PIXELS = 2**17
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
_naming = threading.Lock()


class Track(NamedTuple):
    """A stream, and its number among the streams of its kind, counted from 0."""

    stream: Any
    number: int


def address(path: Path) -> str:
    """The file's absolute path for FFmpeg, which takes a relative name with a colon for a protocol."""
    return str(path.absolute())


@contextmanager
def opened(path: Path, limits: MediaSettings) -> Iterator[Any]:
    """Open a container; whatever FFmpeg or PyAV raises while it is open becomes an error that names the file."""
    if path.exists() and not path.is_file():
        raise CorruptFileError(
            f"{path.name} is no file but a folder, pipe, socket or device", remedy="give the file itself"
        )
    try:
        with av.open(
            address(path), metadata_errors="replace", options=open_options(limits), timeout=PATIENCE_SECONDS
        ) as container:
            check_format(container.format.name, path)
            yield container
    except PrivFedTalkError:
        raise
    except MemoryError as error:
        raise CorruptFileError(
            f"{path.name} needs more memory than there is, or its frames have more than {limits.pixels_a_frame} pixels",
            remedy="use fewer workers or a smaller clip, or raise preparation.corpus.media.pixels_a_frame",
        ) from error
    except FFmpegError as error:
        raise CorruptFileError(f"{path.name} cannot be decoded: {error.strerror}", remedy=PLAY_IT) from error
    except Exception as error:  # a file may hold what libraries did not foresee
        reason = one_line(f"{type(error).__name__}: {error}")
        raise CorruptFileError(
            f"{path.name} cannot be decoded: {reason}", remedy=f"{PLAY_IT}, or {RE_ENCODE}"
        ) from error


def video_track(container: Any, path: Path) -> Track:
    """The default picture track of those that can be decoded, else the first of them; cover pictures do not count."""
    # A cover picture inside a sound file is a video stream of one frame, not a talking head.
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    if not streams:
        raise CorruptFileError(f"{path.name} has no video track", remedy="give a clip with picture and sound")
    return _decodable_track(streams, container, path, "video")


def sound_track(container: Any, path: Path) -> Track | None:
    """The default sound track of those that can be decoded, else the first of them; None where there is no sound."""
    streams = container.streams.audio
    return _decodable_track(streams, container, path, "sound") if streams else None


def _decodable_track(streams: Sequence[Any], container: Any, path: Path, kind: str) -> Track:
    """The default one of the streams that can be decoded, else the first of them.

    Raises CorruptFileError with the names of the codecs where FFmpeg can decode none.
    """
    decodable = [Track(stream, number) for number, stream in enumerate(streams) if stream.codec_context is not None]
    if not decodable:
        codecs = ", ".join(dict.fromkeys(_codec_name(container, stream) for stream in streams))
        raise CorruptFileError(f"{path.name} has no {kind} track that can be decoded ({codecs})", remedy=RE_ENCODE)
    return next((track for track in decodable if track.stream.disposition & Disposition.default), decodable[0])


def _codec_name(container: Any, stream: Any) -> str:
    """FFmpeg's name of a codec that it cannot decode, or the codec's four-character code where it has no name."""
    with _naming:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)  # the description is a message of this level
        try:
            description = container.dumps_format()
        finally:
            av.logging.set_level(level)
    found = re.search(rf"Stream #\d+:{stream.index}\D.*?(?:Video|Audio): (\w+)[^(\n]*(?:\((.*?) /)?", description)
    if found is None:
        return "unknown codec"
    return one_line(found[2] if found[1] == "none" and found[2] else found[1], longest=40)


def bounded(container: Any, path: Path, limits: MediaSettings) -> Track:
    """The picture track, whose decoder is set to refuse frames above the bound before it allocates them; other tracks
    of the container are not read."""
    track = video_track(container, path)
    Meter(path, limits).size(int(track.stream.width), int(track.stream.height))
    # Decoders also allocate some pixels around the frame.
    allowed_pixels = limits.pixels_a_frame + limits.pixels_a_frame // 8 + MARGIN_PIXELS
    track.stream.codec_context.options = {"max_pixels": str(allowed_pixels)}
    track.stream.thread_count = 1
    for other in container.streams:
        if other.index != track.stream.index:
            other.discard = av.stream.Discard.all
    return track
