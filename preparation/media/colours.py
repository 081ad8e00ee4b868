"""A picture's pixels as 8-bit RGB: from 16-bit and float greys, transparency, CMYK and wide gamuts."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, ImageFile

GROUND = 255
"""The background of transparent pictures: white."""

_USUAL_TOPS = {"F": (1.0, 255.0, 65_535.0), "I": (255.0, 65_535.0, 2.0**32 - 1)}
"""The usual values of white in pictures of floats (Pillow's mode F) and of integers (I)."""
_LEAST_SHARE = 16
"""A picture whose lightest pixel is below one 16th of a usual white was not made for that white."""

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_FORMAT = 258, 262, 339
_UNSIGNED, _SIGNED = 1, 2
_ROWS = 256
"""How many rows are scaled at once: a large picture as float64 would take half a gigabyte."""


def plain_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """The picture in mode RGB, in sRGB, on white. Raises ValueError where pixels are not finite numbers.

    A colour profile that is broken, or of another colour space than the picture, is ignored.
    """
    packed = str(image.tile)  # how pixels are stored in the file; gone once they are read
    image.load()
    if image.mode.startswith(("I", "F")):
        flat = _grey(image)
    elif image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        # Only Adobe stores CMYK inverted, and marks its files; Pillow treats all of them as inverted.
        flat = ImageChops.invert(image)
    else:
        flat = _on_ground(image, packed)
    return _in_srgb(flat, image.info.get("icc_profile"))


def _grey(image: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits, or of floats, as one of 8 bits, scaled by its range."""
    values = np.asarray(image)
    tags = image.tag_v2 if image.format == "TIFF" and hasattr(image, "tag_v2") else {}
    bits, form = first_number(tags.get(_TIFF_BITS), 16), first_number(tags.get(_TIFF_FORMAT), _UNSIGNED)
    if image.mode == "I" and bits == 32 and form == _UNSIGNED and tags:
        values = values.view(np.uint32)  # Pillow reads them as signed
    bottom, top = 0.0, 2.0**bits - 1
    if not image.mode.startswith("I;16"):
        bottom, top = _range(values, image.mode, bits if form == _SIGNED else 0)
    grey = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _ROWS):
        shares = (values[first : first + _ROWS].astype(np.float64) - bottom) / (top - bottom)
        grey[first : first + _ROWS] = np.rint(255 * shares.clip(0, 1))
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = GROUND
    return Image.fromarray(grey)


def _range(values: NDArray[Any], mode: str, signed_bits: int) -> tuple[float, float]:
    """The values of black and white: 0, and the smallest usual white that holds all values; else the values' range."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("its pixels are not finite numbers")
    usual: tuple[float, ...] = _USUAL_TOPS[mode]
    if mode == "I" and signed_bits:
        usual = (*(top for top in usual if signed_bits > 16 and top < 2**16), 2.0 ** (signed_bits - 1) - 1)
    top = next((top for top in usual if high <= top), high)
    if top > usual[0] and high < top / _LEAST_SHARE:
        top = high
    bottom = min(0.0, low)
    return bottom, top if top > bottom else bottom + 1


def _on_ground(image: Image.Image, packed: str) -> Image.Image:
    """The picture with its transparent parts on white; other pictures as they are."""
    if not image.has_transparency_data:
        return image
    key = image.info.get("transparency")
    if image.mode != "P" and key is not None:
        # Pillow scales the pixels to 8 bits, but not the transparent colour.
        image.info["transparency"] = _key_of_8_bits(key, packed, image.mode)
    grey = image.mode in ("1", "L", "LA", "La")
    layered = image.convert("LA" if grey else "RGBA")
    ground = Image.new("L" if grey else "RGB", image.size, GROUND if grey else (GROUND,) * 3)
    ground.paste(layered.convert(ground.mode), mask=layered.getchannel("A"))
    return ground


def _key_of_8_bits(key: Any, packed: str, mode: str) -> Any:
    if isinstance(key, tuple):
        return tuple(value >> 8 for value in key) if ";16" in packed else key
    return key * (255 if mode == "1" else 85 if "L;2" in packed else 17 if "L;4" in packed else 1)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and image.mode != "LAB":
        coloured = image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode))
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            found = ImageCms.profileToProfile(coloured, source, _srgb(), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            found = None
        if found is not None:
            return found
    return image.convert("RGB")


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def first_number(value: Any, default: int) -> int:
    """The first value of a TIFF tag; the default where the tag is absent or no integer."""
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default
