"""Pictures of every kind come out upright, as RGB with their tones; the others are refused by name, with a remedy."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.media.picture import open_picture
from preparation.media.writing import encode
from preparation.settings import MediaSettings
from tests.preparation.conftest import noise

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


# Tones: scaled by the range, not cut off at 255.


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", RAMP.astype(np.uint16) * 257),
        ("a.tif", RAMP.astype(np.uint16) * 257),
        ("int of 16 bits.tif", RAMP.astype(np.int32) * 257),
        ("int of 31 bits.tif", RAMP.astype(np.int32) * 8_421_504),
        ("int of 8 bits.tif", RAMP.astype(np.int32)),
        ("to 1.tif", RAMP.astype(np.float32) / 255),
        ("to 255.tif", RAMP.astype(np.float32)),
        ("a little more than 1.tif", RAMP.astype(np.float32) / 250),
        ("around 0.tif", RAMP.astype(np.float32) / 127.5 - 1),
        ("any.tif", RAMP.astype(np.float32) * 1e4 - 5e5),
    ],
)
def test_deep_pictures_keep_their_tones(tmp_path: Path, name: str, pixels: NDArray) -> None:
    Image.fromarray(pixels).save(tmp_path / name)
    near(read(tmp_path / name), GREY, off=1.0)


def test_a_dark_deep_picture_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 25).save(tmp_path / "a.png")
    Image.fromarray(RAMP.astype(np.float32) / 2550).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        near(read(tmp_path / name), GREY / 10, off=1.0)


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


def test_a_tiff_says_what_white_is(tmp_path: Path) -> None:
    """WhiteIsZero, 12 bits, signed 16 bits and unsigned 32 bits."""
    deep = (RAMP.astype(np.uint32) * 257).astype("<u2")
    near(read(tmp_path / "negative.tif", tiff(65535 - deep, 16, 0)), GREY, off=1.0)
    near(read(tmp_path / "floats.tif", tiff((1 - RAMP / 255).astype("<f4"), 32, 0, kind=3)), GREY, off=1.0)
    twelve = (RAMP.astype(np.uint32) * 4095 // 255).reshape(HEIGHT, -1, 2)
    packed = np.stack([twelve[..., 0] >> 4, (twelve[..., 0] & 15) << 4 | twelve[..., 1] >> 8, twelve[..., 1] & 255], 2)
    content = tiff(packed.astype(np.uint8).reshape(HEIGHT, -1), 12, 1)
    content = content.replace(struct.pack("<HHII", 256, 4, 1, WIDTH * 3 // 2), struct.pack("<HHII", 256, 4, 1, WIDTH))
    near(read(tmp_path / "twelve.tif", content), GREY, off=1.0)
    near(read(tmp_path / "signed.tif", tiff((deep // 2).astype("<i2"), 16, 1, kind=2)), GREY, off=1.0)
    near(read(tmp_path / "long.tif", tiff(deep.astype("<u4") * 65537, 32, 1)), GREY, off=1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    pixels = RAMP.astype(np.float32)
    pixels[3, 5] = value
    Image.fromarray(pixels).save(tmp_path / "hole.tif")
    refused(tmp_path / "hole.tif", "not finite numbers")


def test_colours_of_16_bits_keep_their_tones(tmp_path: Path) -> None:
    near(read(tmp_path / "a.png", png(COLOURS.astype(np.uint16) * 257)), COLOURS, off=0.1)


# Transparency: on white.


def half_transparent(mode: str) -> tuple[Image.Image, NDArray]:
    """A picture whose left half, black, does not show, and what must be seen of it."""
    pixels = np.dstack([COLOURS, np.full_like(RAMP, 255)])
    pixels[:, :32] = 0
    picture = Image.fromarray(pixels).convert(mode)
    seen = np.array(Image.fromarray(COLOURS).convert("L" if mode == "LA" else "RGB").convert("RGB"))
    seen[:, :32] = 255
    return picture, seen


@pytest.mark.parametrize("name", ["RGBA.png", "RGBA.webp", "RGBA.tif", "RGBA.avif", "RGBA.gif", "LA.png", "LA.tif"])
def test_transparency_is_put_on_white(tmp_path: Path, name: str) -> None:
    picture, seen = half_transparent(name.partition(".")[0])
    picture.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    near(read(tmp_path / name), seen, off=6.0)


def test_a_transparent_colour_is_put_on_white(tmp_path: Path) -> None:
    """One colour of a palette, of grey and of RGB, at 8 and 16 bits, and half-transparent palettes."""
    key = tuple(int(value) for value in COLOURS[20, 5])
    seen = COLOURS.copy()
    seen[8:, 5] = 255
    near(read(tmp_path / "rgb.png", png(COLOURS, chunk(b"tRNS", struct.pack(">HHH", *key)))), seen, off=0.1)
    deep = png(COLOURS.astype(np.uint16) * 257, chunk(b"tRNS", struct.pack(">HHH", *(257 * value for value in key))))
    near(read(tmp_path / "rgb16.png", deep), seen, off=0.1)
    shown = GREY.copy()
    shown[:, 5] = 255
    grey = int(RAMP[0, 5])
    near(read(tmp_path / "grey.png", png(RAMP, chunk(b"tRNS", struct.pack(">H", grey)))), shown, off=0.1)
    deep = png(RAMP.astype(np.uint16) * 257, chunk(b"tRNS", struct.pack(">H", 257 * grey)))
    near(read(tmp_path / "grey16.png", deep), shown, off=0.1)
    for depth in (1, 2, 4):
        packed = np.zeros((HEIGHT, WIDTH * depth // 8), np.uint8)
        packed[:, : packed.shape[1] // 2] = 255  # the left half is white, the right one black
        key = chunk(b"tRNS", struct.pack(">H", 0))
        found = read(tmp_path / "few.png", png(packed, key, size=(HEIGHT, WIDTH), depth=depth))
        assert found.min() == 255
        key = chunk(b"tRNS", struct.pack(">H", 2**depth - 1))
        found = read(tmp_path / "few.png", png(255 - packed, key, size=(HEIGHT, WIDTH), depth=depth))
        assert found[0, 0].tolist() == [0, 0, 0] and found[0, -1].tolist() == [255, 255, 255]
    palette = Image.fromarray(RAMP // 128).convert("P")
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    found = read(tmp_path / "palette.png")
    assert found[0, 0].tolist() == [255, 255, 255]
    near(found[:, 40:], np.full((HEIGHT, 24, 3), (227, 177, 152)), off=1.0)


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


# Colour.


def display_p3() -> bytes:
    """A Display P3 profile of matrix and curve, as telephones write it: primaries adapted to D50, a gamma of 2.2."""

    def tag(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    text = b"desc\0\0\0\0\0\0\0\x03P3\0" + bytes(79)
    curve = b"curv\0\0\0\0\0\0\0\x01" + struct.pack(">H", round(2.2 * 256)) + b"\0\0"
    parts = {
        b"desc": text, b"cprt": b"text\0\0\0\0-\0\0\0", b"wtpt": tag((0.9642, 1.0, 0.8249)),
        b"rXYZ": tag((0.51512, 0.24120, -0.00105)), b"gXYZ": tag((0.29198, 0.69225, 0.04189)),
        b"bXYZ": tag((0.15710, 0.06657, 0.78407)), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body = struct.pack(">I", len(parts)), b""
    for name, content in parts.items():
        table += struct.pack(">4sII", name, 128 + 4 + 12 * len(parts) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + 12 * len(parts) + len(body), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += b"".join(struct.pack(">i", round(value * 65536)) for value in (0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_a_wide_gamut_is_brought_to_srgb(tmp_path: Path, form: str) -> None:
    skin = Image.new("RGB", (WIDTH, HEIGHT), (200, 150, 130))
    skin.save(tmp_path / "a", form, icc_profile=display_p3(), quality=97)
    # By hand: gamma 2.2, P3's matrix to XYZ at D50, the inverse of sRGB's, sRGB's curve.
    to_xyz = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
    from_srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    linear = np.linalg.inv(from_srgb) @ to_xyz @ (np.array([200, 150, 130]) / 255) ** 2.2
    wanted = 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(read(tmp_path / "a").mean((0, 1)) - wanted).max() < 2.5
    assert wanted[0] > 206  # so that leaving the profile away fails


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        *((mode, junk) for mode in ("RGB", "RGBA", "P", "L") for junk in (b"", b"junk" * 50, display_p3()[:200])),
        *((mode, display_p3()) for mode in ("L", "LA", "1", "CMYK")),
    ],
)
def test_a_profile_that_is_broken_or_of_another_space_breaks_nothing(tmp_path: Path, mode: str, profile: bytes) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "a", form, icc_profile=profile)
    wanted = Image.fromarray(COLOURS).convert(mode).convert("RGB")
    near(read(tmp_path / "a"), np.asarray(wanted), off=8.0)


def test_a_profile_that_says_srgb_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=profile)
    assert np.abs(read(tmp_path / "a.png").astype(int) - COLOURS).max() <= 1


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_printers_colours_are_not_inverted(tmp_path: Path, name: str) -> None:
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / name, quality=97)
    near(read(tmp_path / name), COLOURS)


def test_printers_colours_without_adobes_mark_are_as_they_are(tmp_path: Path) -> None:
    """Adobe writes them inverted, and its mark says so; Pillow takes all for inverted."""
    inverted = Image.fromarray(255 - np.asarray(Image.fromarray(COLOURS).convert("CMYK")), "CMYK")
    inverted.save(tmp_path / "a.jpg", quality=97)
    content = (tmp_path / "a.jpg").read_bytes()
    mark = content.index(b"\xff\xee")
    length = struct.unpack(">H", content[mark + 2 : mark + 4])[0]
    near(read(tmp_path / "b.jpg", content[:mark] + content[mark + 2 + length :]), COLOURS)


def test_rarer_spaces(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = Image.fromarray(COLOURS)
    ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB").save(tmp_path / "lab.tif")
    near(read(tmp_path / "lab.tif"), COLOURS, off=8.0)
    picture.convert("YCbCr").save(tmp_path / "ycc.tif", compression="jpeg", quality=97)
    near(read(tmp_path / "ycc.tif"), COLOURS, off=6.0)
    for name in ("one.png", "one.tif", "one.bmp"):
        picture.convert("1").save(tmp_path / name)
        near(read(tmp_path / name), np.asarray(picture.convert("1").convert("RGB")), off=0.1)
    for name in ("a.jp2", "a.ppm", "a.bmp"):
        picture.save(tmp_path / name)
        near(read(tmp_path / name), COLOURS)


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
