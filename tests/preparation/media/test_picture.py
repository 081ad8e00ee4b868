"""Pictures of every kind come out upright; the others are refused by name, with a remedy."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.media.writing import encode
from preparation.settings import MediaSettings
from tests.preparation.conftest import noise
from tests.preparation.media.made_pictures import (
    COLOURS,
    HEIGHT,
    RAMP,
    WIDTH,
    chunk,
    ifd,
    jpeg,
    near,
    png,
    read,
    refused,
    tiff,
)

# Upright.

BACK: dict[int, Callable[[NDArray], NDArray]] = {
    1: lambda frame: frame,
    2: np.fliplr,
    3: lambda frame: np.rot90(frame, 2),
    4: np.flipud,
    5: lambda frame: frame.swapaxes(0, 1),
    6: lambda frame: np.rot90(frame, 1),
    7: lambda frame: np.rot90(frame, 2).swapaxes(0, 1),
    8: lambda frame: np.rot90(frame, -1),
}
"""How a picture lies that EXIF's orientation turns, or mirrors, upright."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "TIFF", "PNG", "WEBP", "AVIF"])
def test_a_picture_stands_upright_and_is_not_mirrored(tmp_path: Path, orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(BACK[orientation](COLOURS))).save(tmp_path / "a", form, exif=exif, quality=97)
    near(read(tmp_path / "a"), COLOURS, off=6.0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_an_uncompressed_grey_tiff_stands_upright(tmp_path: Path, orientation: int, deep: bool) -> None:
    """Pillow maps such files into memory, with rows as long as those of the upright picture."""
    shown = RAMP.copy()
    shown[:8] = 99
    values = (BACK[orientation](shown).astype("<u2") * 257) if deep else BACK[orientation](shown)
    found = read(tmp_path / "a.tif", tiff(values, 16 if deep else 8, 1, (0x0112, 3, orientation)))
    near(found, np.repeat(shown[..., None], 3, axis=2), off=1.0)


@pytest.mark.parametrize(
    "exif",
    [
        b"not a TIFF",
        b"II*\0\xff\xff\xff\x7f",
        ifd(struct.pack("<HHII", 0x0112, 2, 8, 0xFFFFFF)),
        ifd(struct.pack("<HHI", 0x0112, 2, 2) + b"6\0\0\0") + bytes(4),
        ifd(struct.pack("<HHII", 0x0112, 5, 1, 26)) + bytes(4) + struct.pack("<II", 6, 0),
        ifd(struct.pack("<HHII", 0x0112, 3, 1, 9)) + bytes(4),
        ifd(struct.pack("<HHII", 0x0112, 3, 1, 0)) + bytes(4),
        ifd(struct.pack("<HHII", 0x8769, 4, 1, 8)) + bytes(4),
        ifd(struct.pack("<HHII", 0x0112, 7, 4, 6)) + bytes(4),
    ],
)
def test_a_broken_orientation_is_passed_over(tmp_path: Path, exif: bytes) -> None:
    near(read(tmp_path / "a.jpg", jpeg(exif)), COLOURS)
    near(read(tmp_path / "a.png", png(COLOURS, chunk(b"eXIf", exif))), COLOURS, off=0.1)


def test_other_broken_descriptions_of_a_png_are_passed_over(tmp_path: Path) -> None:
    raw = b"Raw profile type exif\0\nexif\n  12\nzzzzzz\n"
    near(read(tmp_path / "a.png", png(COLOURS, chunk(b"tEXt", raw))), COLOURS, off=0.1)
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="\xff"'
    near(read(tmp_path / "b.png", png(COLOURS, chunk(b"iTXt", xmp))), COLOURS, off=0.1)


# Several pictures in one file.


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "a.avif", "a.mpo", "a.tif"])
def test_of_several_pictures_the_first_is_taken(tmp_path: Path, name: str) -> None:
    others = [Image.new("RGB", (WIDTH, HEIGHT), "blue")] * 3
    Image.fromarray(COLOURS).save(tmp_path / name, save_all=True, append_images=others)
    near(read(tmp_path / name), COLOURS, off=8.0)


def test_a_picture_that_is_a_clip_gives_its_first_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([np.full((64, 64, 3), 60 + number, np.uint8) for number in range(0, 100, 20)])
    encode(frames, None, tmp_path / "12:30.mp4")
    (tmp_path / "12:30.mp4").rename(tmp_path / "12:30.jpg")
    monkeypatch.chdir(tmp_path)
    assert abs(float(read(Path("12:30.jpg")).mean()) - 60) < 4


@pytest.mark.parametrize("name", ["2026-11-29T12:30:00.png", "a #2 %03d.png", "ε ü 😀.png", "-r.png", "a'b\"c.png."])
def test_awkward_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    near(read(Path(name), png(COLOURS)), COLOURS, off=0.1)


# What is refused.


@pytest.mark.parametrize(
    ("brand", "others"),
    [
        *((brand, b"mif1") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"avci", b"jpgs")),
        *((b"mif1", b"heic"), (b"msf1", b"hevc"), (b"mif1", b"")),
    ],
)
def test_heic_is_refused_by_name_whatever_it_is_called(tmp_path: Path, brand: bytes, others: bytes) -> None:
    content = struct.pack(">I", 16 + len(others)) + b"ftyp" + brand + bytes(4) + others + bytes(300)
    for name in ("a.heic", "a.jpg", "a.mp4"):
        assert "JPEG" in refused(tmp_path / name, r"is an? HEIF picture \(.*HEIC", content)


def test_avif_under_heifs_own_brand_is_read(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.avif", quality=95)
    content = (tmp_path / "a.avif").read_bytes()
    assert content[8:12] == b"avif" and b"avif" in content[16:40]
    near(read(tmp_path / "b.heif", content[:8] + b"mif1" + content[12:]), COLOURS, off=6.0)


def test_pictures_of_high_dynamic_range_are_refused_not_shown_pale(tmp_path: Path) -> None:
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        content = png(COLOURS.astype(np.uint16) * 257, chunk(b"cICP", bytes([9, transfer, 0, 1])))
        assert "sRGB" in refused(tmp_path / "a.png", name, content)
        Image.fromarray(COLOURS).save(tmp_path / "a.avif")
        content = (tmp_path / "a.avif").read_bytes()
        place = content.index(b"colrnclx") + 8
        content = content[:place] + struct.pack(">HH", 9, transfer) + content[place + 4 :]
        refused(tmp_path / "b.avif", name, content)
    near(read(tmp_path / "c.png", png(COLOURS, chunk(b"cICP", bytes([1, 13, 0, 1])))), COLOURS, off=0.1)


def test_a_clip_of_high_dynamic_range_is_left_to_the_reader_of_clips(tmp_path: Path) -> None:
    encode(np.full((3, 64, 64, 3), 90, np.uint8), None, tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    read(tmp_path / "b.mp4", content + struct.pack(">I", 19) + b"freecolrnclx" + struct.pack(">HHHB", 9, 18, 9, 0))


def test_raw_photographs_are_not_their_preview(tmp_path: Path) -> None:
    preview = tiff(RAMP, 8, 1, (254, 4, 1))
    assert "JPEG" in refused(tmp_path / "a.nef", "raw photograph or only a preview", preview)
    negative = tiff(RAMP, 8, 1, (50706, 4, 0x0401))
    refused(tmp_path / "a.dng", "raw photograph or only a preview", negative)


LONG_TEXT = zlib.compress(bytes(80_000_000), 9)


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"Comment\0\0" + LONG_TEXT),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG_TEXT),
        chunk(b"iCCP", b"profile\0\0" + LONG_TEXT),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 9)) * 80,
    ],
)
def test_texts_that_unpack_to_megabytes_are_refused(tmp_path: Path, bomb: bytes) -> None:
    assert "save it anew" in refused(tmp_path / "a.png", "cannot be read", png(RAMP, bomb))
    refused(tmp_path / "b.png", "cannot be read", png(RAMP, after=bomb))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.avif", "a.bmp", "a.jp2"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6])
def test_half_a_picture_is_refused(tmp_path: Path, name: str, share: float) -> None:
    Image.fromarray(noise(1, 96, 128)[0]).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    refused(tmp_path / name, "read|decoded", content[: 12 + int(share * len(content))])


def test_nothing_is_written_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.tif", compression="jpeg")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    tables = content.index(b"\xff\xd8\xff\xdb") if b"\xff\xd8\xff\xdb" in content else 200
    content[tables : tables + 60] = bytes(60)
    refused(tmp_path / "a.tif", "cannot be read", bytes(content))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("chunks", [chunk(b"pHYs", b"\0"), chunk(b"gAMA", b""), chunk(b"IHDR", b"\0\0\0\1")])
def test_short_chunks_are_read_or_refused(tmp_path: Path, chunks: bytes) -> None:
    refused(tmp_path / "a.png", "cannot be read", png(RAMP, chunks))


@pytest.mark.parametrize("size", [(0, 48), (48, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    refused(tmp_path / "a.png", "read|pixels", png(RAMP, size=size))
    gif = b"GIF89a" + struct.pack("<HH", *size) + b"\0\0\0,\0\0\0\0" + struct.pack("<HH", *size) + b"\0\2\0;"
    refused(tmp_path / "a.gif", "read|pixels", gif)


@pytest.mark.parametrize(
    ("name", "form"), [("a.tga", "TGA"), ("a.ico", "ICO"), ("a.dds", "DDS"), ("a.sgi", "SGI"), ("a.eps", "EPS")]
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, name: str, form: str) -> None:
    Image.fromarray(COLOURS).save(tmp_path / name, form)
    assert "JPEG" in refused(tmp_path / name, "is no picture that can be read")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "is a folder")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "is no ordinary file")
    refused(tmp_path / f"{'long' * 80}.png", "File name too long")
    refused(tmp_path / "absent.png", "there is no picture")


def test_limits_hold_before_anything_is_unpacked(tmp_path: Path) -> None:
    limits = MediaSettings(pixels_a_picture=HEIGHT * WIDTH)
    for name in ("a.png", "a.gif", "a.webp", "a.avif", "a.tif", "a.jpg", "a.bmp"):
        Image.fromarray(COLOURS).save(tmp_path / name)
        read(tmp_path / name, limits=limits)
        Image.new("RGB", (WIDTH, HEIGHT + 1)).save(tmp_path / name)
        remedy = refused(tmp_path / name, rf"has {WIDTH} x {HEIGHT + 1} pixels", limits=limits)
        assert "preparation.corpus.media.pixels_a_picture" in remedy


@pytest.mark.parametrize("head", [b"RIFF\xff\xff\xff\x7fWEBPVP8 ", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n"])
def test_a_file_of_gigabytes_is_not_read_into_memory(tmp_path: Path, head: bytes) -> None:
    with (tmp_path / "a.webp").open("wb") as file:
        file.write(head)
        file.truncate(3_000_000_000)  # sparse: it takes no room on the disk
    assert "smaller" in refused(tmp_path / "a.webp", "has 3.0 GB")


def test_a_jpeg_of_thousands_of_scans_is_refused_before_they_are_read(tmp_path: Path) -> None:
    """What follows its end (a telephone's film) may look like scans; a thumbnail's scans are not its own."""
    buffer = io.BytesIO()
    Image.new("L", (2000, 2000)).save(buffer, "JPEG", progressive=True)
    content, scan = buffer.getvalue(), buffer.getvalue().rindex(b"\xff\xda")
    near(read(tmp_path / "a.jpg", content + b"\xff\xda" * 500), np.zeros((2000, 2000, 3)), off=0.1)
    near(read(tmp_path / "a.jpg", content[:2] + b"\xff\xe5\x03\xea" + b"\xff\xda" * 500 + content[2:]),
         np.zeros((2000, 2000, 3)), off=0.1)  # fmt: skip
    refused(tmp_path / "a.jpg", "more than 100 scans", content[:-2] + content[scan:-2] * 3000 + b"\xff\xd9")


def test_whatever_a_library_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(RAMP))
    for error in (KeyError("a"), RecursionError(), MemoryError(), AssertionError("no"), struct.error("unpack")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", fail)
        refused(tmp_path / "a.png", "cannot be read")


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    """A picture with a wrong byte is a picture or an error that names the file, nothing else."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.avif", "a.bmp"):
        Image.fromarray(COLOURS[:16, :16]).convert("RGB").save(tmp_path / name)
        content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(40):
            wrong = content.copy()
            places = rng.integers(0, min(len(wrong), 400), rng.integers(1, 6))
            wrong[places] = rng.integers(0, 256, len(places))
            (tmp_path / name).write_bytes(wrong.tobytes())
            try:
                found = read(tmp_path / name, limits=MediaSettings(pixels_a_picture=2**20))
            except PrivFedTalkError as error:
                assert name in error.reason and error.remedy
                assert isinstance(error, CorruptFileError)
            else:
                assert found.size
