"""Pictures made byte by byte, and what a reading of them is held to."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.errors import PrivFedTalkError
from preparation.media.picture import open_picture
from preparation.settings import MediaSettings

HEIGHT, WIDTH = 48, 64
RAMP = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
COLOURS = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=2)
COLOURS[:8] = (220, 40, 40)  # tells up from down
GREY = np.repeat(RAMP[..., None], 3, axis=2)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    pixels: NDArray, *chunks: bytes, after: bytes = b"", size: tuple[int, int] | None = None, depth: int = 0
) -> bytes:
    """A PNG as its standard has it, of grey or RGB pixels of 8 or 16 bits; `chunks` come before the pixels. Of fewer
    bits, `depth`, pixels are packed already."""
    height, width = size or pixels.shape[:2]
    depth, colour = depth or 8 * pixels.dtype.itemsize, 2 if pixels.ndim == 3 else 0
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(f">u{pixels.dtype.itemsize}").tobytes() for row in pixels)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + after + chunk(b"IEND", b"")


def jpeg(exif: bytes = b"", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "JPEG", quality=97, subsampling=0, **options)
    content = buffer.getvalue()
    marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif if exif else b""
    return content[:2] + marker + content[2:]


def ifd(*entries: bytes) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries)


def read(path: Path, content: bytes | None = None, limits: MediaSettings | None = None) -> NDArray[np.uint8]:
    """The picture; no library says anything on the way."""
    if content is not None:
        path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_picture(path) if limits is None else open_picture(path, limits)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.flags.c_contiguous and found.flags.writeable
    return found


def refused(path: Path, match: str, content: bytes | None = None, limits: MediaSettings | None = None) -> str:
    """The remedy of the error that names the file."""
    with pytest.raises(PrivFedTalkError, match=match) as caught:
        read(path, content, limits)
    assert path.name in caught.value.reason and caught.value.remedy
    return caught.value.remedy


def near(found: NDArray, wanted: NDArray, off: float = 4.0) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < off, (found[20, ::9], wanted[20, ::9])


def tiff(values: NDArray, bits: int, photometric: int, *more: tuple[int, int, int], kind: int = 1) -> bytes:
    """An uncompressed TIFF of one strip of grey; `more` are (tag, type, value)."""
    data, (height, width) = values.tobytes(), values.shape
    tags = [
        *((256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (277, 3, 1)),
        *((278, 4, height), (279, 4, len(data)), (339, 3, kind), *more),
    ]
    place = 8 + 2 + 12 * (len(tags) + 1) + 4
    tags.append((273, 4, place))
    entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + data
