"""Made media files: containers × codecs × pixel formats × rates × tracks × damage, from a description alone.

The same description gives the same bytes, so that a failing one can be kept as a few words.
"""

from __future__ import annotations

import faulthandler
import io
import multiprocessing.connection
import resource
from dataclasses import dataclass, replace
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

import av
import numpy as np
import psutil
from av.error import FFmpegError
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fuzz.damage import Damage, damaged, damages


@dataclass(frozen=True)
class Pictures:
    """A video track. `gap` is how many frames are left out after the second; `aspect` the shape of a pixel."""

    codec: str
    pixel_format: str
    width: int
    height: int
    rate: Fraction
    count: int
    interlaced: bool
    aspect: Fraction
    colours: tuple[int, int, int, int]
    gap: int


@dataclass(frozen=True)
class Sound:
    """A sound track of `content`, with a hole of `hole_seconds` in its middle, that starts at `start_seconds`."""

    codec: str
    rate_hz: int
    layout: str
    seconds: float
    content: str
    hole_seconds: float
    start_seconds: float


@dataclass(frozen=True)
class Medium:
    """A whole file. `suffix` is what its name claims, which need not be true; `then` is what is joined to its end."""

    container: str
    pictures: tuple[Pictures, ...]
    sounds: tuple[Sound, ...]
    damage: tuple[Damage, ...] = ()
    suffix: str = ".mp4"
    then: Medium | None = None


VIDEO_CODECS = {
    "mp4": ("libx264", "mpeg4", "mjpeg", "libvpx-vp9", "png"),
    "mov": ("libx264", "prores_ks", "mjpeg", "qtrle", "png", "mpeg4"),
    "matroska": ("libx264", "ffv1", "libvpx", "mpeg2video", "mjpeg", "rawvideo"),
    "webm": ("libvpx", "libvpx-vp9"),
    "avi": ("mpeg4", "mjpeg", "libx264", "huffyuv", "rawvideo", "ffv1"),
    "mpegts": ("mpeg2video", "libx264", "mpeg1video"),
    "mpeg": ("mpeg1video", "mpeg2video"),
    "vob": ("mpeg2video",),
    "flv": ("flv", "libx264"),
    "asf": ("wmv2",),
    "3gp": ("h263", "mpeg4", "libx264"),
    "nut": ("ffv1", "mpeg4", "rawvideo"),
    "mxf": ("mpeg2video",),
    "gif": ("gif",),
    "apng": ("apng",),
    "ivf": ("libvpx", "libvpx-vp9"),
    "yuv4mpegpipe": ("rawvideo",),
    "swf": ("flv", "mjpeg"),
}
SOUND_CODECS = {
    "mp4": ("aac", "libmp3lame", "alac", "ac3", "libopus", "flac"),
    "mov": ("pcm_s16le", "pcm_f32le", "aac", "pcm_s24be", "pcm_alaw", "alac"),
    "matroska": ("pcm_s16le", "pcm_f32le", "pcm_f64le", "flac", "libopus", "aac", "mp2", "tta", "wavpack", "pcm_u8"),
    "webm": ("libopus", "vorbis"),
    "avi": ("pcm_s16le", "libmp3lame", "ac3", "adpcm_ms", "pcm_u8", "pcm_mulaw"),
    "mpegts": ("mp2", "aac", "ac3", "libmp3lame"),
    "mpeg": ("mp2", "ac3"),
    "vob": ("mp2", "ac3", "pcm_dvd"),
    "flv": ("aac", "libmp3lame", "pcm_s16le"),
    "asf": ("wmav1", "wmav2"),
    "3gp": ("aac",),
    "nut": ("pcm_s16le", "mp2", "pcm_f32le"),
    "wav": ("pcm_s16le", "pcm_f32le", "pcm_f64le", "pcm_u8", "pcm_s24le", "pcm_mulaw", "adpcm_ima_wav", "adpcm_ms"),
    "w64": ("pcm_s16le", "pcm_f32le"),
    "aiff": ("pcm_s16be", "pcm_s8"),
    "au": ("pcm_s16be", "pcm_mulaw", "pcm_f64be"),
    "caf": ("pcm_s16be", "alac"),
    "flac": ("flac",),
    "mp3": ("libmp3lame",),
    "adts": ("aac",),
    "ogg": ("libopus", "vorbis", "flac"),
    "ac3": ("ac3",),
    "tta": ("tta",),
    "wv": ("wavpack",),
    "amr": ("libopencore_amrnb",),
}
JOINED = frozenset({"mpegts", "mpeg", "vob", "mp3", "adts", "ac3", "ogg", "matroska", "flac"})
"""What people join by joining files: from there on sizes, rates and codecs may be others."""
PIXEL_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "yuv422p10le", "gray", "rgb24", "bgr0",
                 "yuva420p", "rgba", "pal8", "gray16le", "gbrp", "yuv410p", "nv12", "monow")  # fmt: skip
RATES = (Fraction(25), Fraction(25), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(50), Fraction(15),
         Fraction(10), Fraction(24), Fraction(1), Fraction(120), Fraction(1000), Fraction(25, 3))  # fmt: skip
ASPECTS = (
    Fraction(1),
    Fraction(16, 11),
    Fraction(4, 3),
    Fraction(1, 2),
    Fraction(1000, 1),
    Fraction(1, 1000),
    Fraction(0),
)
COLOURS = (
    (2, 2, 2, 0),
    (1, 1, 1, 1),
    (1, 1, 1, 2),
    (9, 16, 9, 1),
    (9, 18, 9, 1),
    (6, 6, 6, 1),
    (5, 4, 5, 1),
    (9, 14, 9, 2),
)
"""Primaries, transfer, matrix and range, as ITU-T H.273 numbers them: unknown, 709, PQ, HLG, 601 and others."""
CONTENTS = ("tone", "silence", "cancel", "nan", "infinite", "clipped", "noise", "left")
SUFFIXES = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".MTS",
    ".wav",
    ".mp3",
    ".m4v",
    ".jpg",
    "",
    ".txt",
    ".heic",
)


def pictures_in(container: str) -> st.SearchStrategy[Pictures]:
    side = st.one_of(st.sampled_from((16, 48, 64, 96)), st.integers(2, 120))
    return st.builds(
        Pictures,
        codec=st.sampled_from(VIDEO_CODECS[container]),
        pixel_format=st.sampled_from(PIXEL_FORMATS),
        width=side,
        height=side,
        rate=st.sampled_from(RATES),
        count=st.integers(1, 8),
        interlaced=st.booleans(),
        aspect=st.sampled_from(ASPECTS),
        colours=st.sampled_from(COLOURS),
        gap=st.sampled_from((0, 0, 0, 0, 0, 1, 30, 2000, 10**7)),
    )


def sounds_in(container: str) -> st.SearchStrategy[Sound]:
    return st.builds(
        Sound,
        codec=st.sampled_from(SOUND_CODECS[container]),
        rate_hz=st.sampled_from((16_000, 44_100, 48_000, 8_000, 22_050, 96_000, 11_025, 192_000)),
        layout=st.sampled_from(("mono", "stereo", "5.1", "2.1", "quad", "7.1", "hexadecagonal")),
        seconds=st.sampled_from((0.0, 0.01, 0.2, 0.5, 0.5, 0.5)),
        content=st.sampled_from(CONTENTS),
        hole_seconds=st.sampled_from((0.0, 0.0, 0.0, 0.0, 0.1, 1.0, 100.0, 1e6)),
        start_seconds=st.sampled_from((0.0, 0.0, 0.0, 0.2, 3.0, 1e5)),
    )


@st.composite
def media(draw: st.DrawFn) -> Medium:
    """Files with pictures, sound or both; most of them damaged, some joined to another of their kind."""
    container = draw(st.sampled_from(sorted(VIDEO_CODECS.keys() | SOUND_CODECS.keys())))
    whole = draw(_media_in(container))
    joined = container in JOINED and draw(st.booleans())
    return replace(whole, then=replace(draw(_media_in(container)), damage=()) if joined else None)


@st.composite
def _media_in(draw: st.DrawFn, container: str) -> Medium:
    most = draw(st.sampled_from((1, 1, 1, 2)))
    has_pictures, has_sound = container in VIDEO_CODECS, container in SOUND_CODECS
    pictures = draw(st.lists(pictures_in(container), max_size=most)) if has_pictures else []
    sounds = draw(st.lists(sounds_in(container), max_size=most)) if has_sound else []
    return Medium(
        container,
        tuple(pictures),
        tuple(sounds),
        tuple(draw(st.lists(damages(), max_size=draw(st.sampled_from((0, 1, 3)))))),
        draw(st.sampled_from(SUFFIXES)),
    )


class Maker:
    """Makes media in a process of its own: some encoders write past their buffers when they are fed odd pictures."""

    def __init__(self) -> None:
        self._start()

    def make(self, medium: Medium) -> bytes | None:
        """The file's bytes; None where FFmpeg does not write such a one, or dies of it."""
        whole = self._undamaged(medium)
        if whole is None:
            return None
        if medium.then is not None:
            whole += self._undamaged(medium.then) or b""
        for damage in medium.damage:
            whole = damaged(whole, damage)
        return whole

    def _undamaged(self, medium: Medium) -> bytes | None:
        try:
            self._pipe.send(medium)
            if self._pipe.poll(SECONDS_A_FILE):
                return self._pipe.recv()
        except (EOFError, OSError):
            pass
        self.close()  # dead, or at work for ever: its answer must not be taken for the next one's
        self._start()
        return None

    def close(self) -> None:
        self._process.kill()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()


SECONDS_A_FILE = 10.0
MEMORY_A_FILE = 2 * 1024**3
"""Some encoders ask for ever more when they are fed odd sound."""


def _serve(pipe: Connection) -> None:
    faulthandler.disable()  # an encoder that dies is no news
    most = psutil.Process().memory_info().data + MEMORY_A_FILE
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A child that outlived a reader that died would keep the tests' own pipes open, and pytest waiting for ever.
    while pipe in multiprocessing.connection.wait([pipe, parent.sentinel]):
        pipe.send(written(pipe.recv()))


def written(medium: Medium) -> bytes | None:
    """The undamaged file's bytes; None where FFmpeg does not write such a one."""
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format=medium.container) as container:
            tracks = [(_video_track(container, one), one) for one in medium.pictures]
            heard = [(_sound_track(container, one), one) for one in medium.sounds]
            for stream, one in tracks:
                _write_pictures(container, stream, one)
            for stream, sound in heard:
                _write_sound(container, stream, sound)
    except (FFmpegError, ValueError, OverflowError):  # a track that this container, or a size that this codec has not
        return None
    return buffer.getvalue()


def _video_track(container: Any, one: Pictures) -> Any:
    stream = container.add_stream(one.codec, rate=one.rate)
    formats = {each.name for each in stream.codec.video_formats or ()}
    stream.pix_fmt = one.pixel_format if one.pixel_format in formats or not formats else sorted(formats)[0]
    stream.width, stream.height = one.width, one.height
    stream.thread_count = 1
    context = stream.codec_context
    if one.aspect:
        context.sample_aspect_ratio = one.aspect
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = one.colours
    if one.interlaced:
        context.flags |= 0x00040000 | 0x20000000  # FFmpeg's AV_CODEC_FLAG_INTERLACED_DCT and _ME
    if one.codec == "libx264":
        stream.options = {"preset": "ultrafast"}
    elif one.codec == "mjpeg":
        stream.options = {"strict": "unofficial"}  # the range of television, as some cameras write it
    elif one.codec in ("libvpx", "libvpx-vp9"):
        stream.options = {"deadline": "realtime", "cpu-used": "8"}
    return stream


def _write_pictures(container: Any, stream: Any, one: Pictures) -> None:
    for index in range(one.count):
        picture = np.zeros((one.height, one.width, 3), np.uint8)
        picture[:, : max(1, one.width * (index + 1) // (one.count + 1))] = (200, 120, 60)
        picture[::2] ^= 16
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index + (one.gap if index > 1 else 0)
        frame.time_base = 1 / one.rate
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _sound_track(container: Any, one: Sound) -> Any:
    stream = container.add_stream(one.codec, rate=one.rate_hz, layout=one.layout)
    if one.codec == "vorbis":
        stream.options = {"strict": "experimental"}
    elif one.codec.startswith("wma"):
        stream.bit_rate = 64_000
    return stream


def _write_sound(container: Any, stream: Any, one: Sound) -> None:
    resampler = av.AudioResampler(
        format=stream.format.name, layout=one.layout, rate=one.rate_hz, frame_size=stream.frame_size or 0
    )
    count, start = int(one.seconds * one.rate_hz), int(one.start_seconds * one.rate_hz)
    for half, (begin, end) in enumerate(((0, count // 2), (count // 2, count))):
        if end == begin:
            continue
        interleaved = _samples(one, begin, end).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(interleaved), format="flt", layout=one.layout)
        frame.sample_rate, frame.time_base = one.rate_hz, Fraction(1, one.rate_hz)
        frame.pts = start + begin + (int(one.hole_seconds * one.rate_hz) if half else 0)
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def _samples(one: Sound, begin: int, end: int) -> NDArray[np.float32]:
    channels = av.AudioLayout(one.layout).nb_channels
    time = np.arange(begin, end, dtype=np.float32) / one.rate_hz
    tone = 0.3 * np.sin(2 * np.pi * 220 * time)
    sound = np.repeat(tone[None], channels, axis=0)
    match one.content:
        case "silence":
            sound[:] = 0
        case "cancel":
            sound[1::2] *= -1
        case "nan":
            sound[:, ::7] = np.nan
        case "infinite":
            sound[:, ::11] = np.inf
        case "clipped":
            sound *= 1000
        case "noise":
            sound = np.random.default_rng(len(tone)).uniform(-1, 1, sound.shape)
        case "left":
            sound[1:] = 0
    return sound.astype(np.float32)
