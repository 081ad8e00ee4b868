"""Pictures of every depth, transparency and colour space come out as RGB with their tones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.preparation.media.made_pictures import (
    COLOURS,
    GREY,
    HEIGHT,
    RAMP,
    WIDTH,
    chunk,
    near,
    png,
    read,
    refused,
    tiff,
)

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
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    picture.save(tmp_path / name, **options)
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
        black = chunk(b"tRNS", struct.pack(">H", 0))
        found = read(tmp_path / "few.png", png(packed, black, size=(HEIGHT, WIDTH), depth=depth))
        assert found.min() == 255
        white = chunk(b"tRNS", struct.pack(">H", 2**depth - 1))
        found = read(tmp_path / "few.png", png(255 - packed, white, size=(HEIGHT, WIDTH), depth=depth))
        assert found[0, 0].tolist() == [0, 0, 0] and found[0, -1].tolist() == [255, 255, 255]
    palette = Image.fromarray(RAMP // 128).convert("P")
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    found = read(tmp_path / "palette.png")
    assert found[0, 0].tolist() == [255, 255, 255]
    near(found[:, 40:], np.full((HEIGHT, 24, 3), (227, 177, 152)), off=1.0)


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
    converted = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    assert converted is not None
    converted.save(tmp_path / "lab.tif")
    near(read(tmp_path / "lab.tif"), COLOURS, off=8.0)
    picture.convert("YCbCr").save(tmp_path / "ycc.tif", compression="jpeg", quality=97)
    near(read(tmp_path / "ycc.tif"), COLOURS, off=6.0)
    for name in ("one.png", "one.tif", "one.bmp"):
        picture.convert("1").save(tmp_path / name)
        near(read(tmp_path / name), np.asarray(picture.convert("1").convert("RGB")), off=0.1)
    for name in ("a.jp2", "a.ppm", "a.bmp"):
        picture.save(tmp_path / name)
        near(read(tmp_path / name), COLOURS)
