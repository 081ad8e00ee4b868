"""Small clips with one oddity each, made as they are needed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def marked(count: int, height: int = 64, width: int = 96) -> list[Pixels]:
    """Grey frames that brighten with time, white at the top left, black at the top right."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), 60 + number, np.uint8)
        frame[: height // 4, : width // 4] = 255
        frame[: height // 4, -(width // 4) :] = 0
        frames.append(frame)
    return frames


def write_clip(
    path: Path,
    frames: Iterable[Pixels],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    tag: Callable[[Any], None] = lambda frame: None,
    sound: str | None = None,
) -> Path:
    """The frames at 25 a second. `prepare` gets the stream, `tag` every frame, before they are encoded."""
    frames = list(frames)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        prepare(video)
        audio = container.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            tag(frame)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            block = av.AudioFrame.from_ndarray(np.full((1, 48_000), 4000, np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 48_000, 0, Fraction(1, 48_000)
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def with_aspect(aspect: Fraction) -> Callable[[Any], None]:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    return prepare


def packets(path: Path) -> list[tuple[int, int]]:
    """Where each coded picture lies in the file, and its bytes."""
    content, found, end = path.read_bytes(), [], 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                found.append((content.index(bytes(packet), end), packet.size))
                end = sum(found[-1])
    return found


def damage(path: Path, pictures: Iterable[int]) -> Path:
    """Write noise over coded pictures."""
    content, places, rng = bytearray(path.read_bytes()), packets(path), np.random.default_rng(0)
    for picture in pictures:
        place, size = places[picture]
        content[place : place + size] = rng.bytes(size)
    path.write_bytes(content)
    return path


def chunks_of(avi: bytes) -> tuple[bytes, list[bytes]]:
    """What precedes the pictures of an AVI with one track, and its pictures."""
    place = avi.index(b"movi")
    end = place + struct.unpack("<I", avi[place - 4 : place])[0]
    head, found, place = avi[: place - 8], [], place + 4
    while place < end:
        (size,) = struct.unpack("<I", avi[place + 4 : place + 8])
        found.append(avi[place + 8 : place + 8 + size])
        place += 8 + size + size % 2
    return head, found


def avi_of(head: bytes, pictures: Sequence[bytes]) -> bytes:
    """An AVI of these pictures; empty ones are dropped frames."""
    body, index = b"movi", b""
    for picture in pictures:
        index += b"00dc" + struct.pack("<III", 0 if index else 0x10, len(body), len(picture))
        body += b"00dc" + struct.pack("<I", len(picture)) + picture + bytes(len(picture) % 2)
    changed = bytearray(head)
    for header, place in ((b"strh", 40), (b"avih", 24)):
        where = head.index(header) + place
        changed[where : where + 4] = struct.pack("<I", len(pictures))
    whole = bytes(changed) + b"LIST" + struct.pack("<I", len(body)) + body
    whole += b"idx1" + struct.pack("<I", len(index)) + index
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]
