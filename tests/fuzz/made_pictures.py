"""Made picture files: formats × modes × what is written beside the pixels × damage."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.fuzz.damage import Damage, damaged, damages

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "TIFF",
    "BMP",
    "GIF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "TGA",
    "ICO",
    "MPO",
    "PCX",
    "SGI",
    "EPS",
    "PDF",
)
MODES = ("RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "I;16", "I", "F", "YCbCr", "LAB", "HSV")
BESIDE = ("nothing", "orientation", "wrong exif", "text", "profile", "several frames", "transparency")


@dataclass(frozen=True)
class MadePicture:
    """A picture's description. `beside` is what its file holds besides pixels; `number` what that depends on."""

    format: str
    mode: str
    width: int
    height: int
    beside: str
    number: int
    damage: tuple[Damage, ...]
    suffix: str


def pictures() -> st.SearchStrategy[MadePicture]:
    side = st.one_of(st.integers(1, 80), st.sampled_from((64, 1, 2, 3)))
    return st.builds(
        MadePicture,
        format=st.sampled_from(FORMATS),
        mode=st.sampled_from(MODES),
        width=side,
        height=side,
        beside=st.sampled_from(BESIDE),
        number=st.integers(0, 12),
        damage=st.lists(damages(), max_size=3).map(tuple),
        suffix=st.sampled_from((".jpg", ".png", ".heic", ".tif", "", ".mp4", ".webp")),
    )


def make_picture(made: MadePicture) -> bytes | None:
    """The file's bytes; None where Pillow does not write such a one."""
    pixels = np.arange(made.width * made.height * 3, dtype=np.uint32) * 2654435761 >> 24
    whole = Image.fromarray(pixels.astype(np.uint8).reshape(made.height, made.width, 3))
    options: dict[str, object] = {}
    buffer = io.BytesIO()
    try:
        image = whole.convert("L").convert("I").convert("I;16") if made.mode == "I;16" else whole.convert(made.mode)
        match made.beside:
            case "orientation":
                exif = Image.Exif()
                exif[0x0112] = made.number
                options["exif"] = exif
            case "wrong exif":
                options["exif"] = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12" + bytes([made.number]) * 9
            case "text":
                info = PngInfo()
                info.add_text("note", "x" * 10**made.number if made.number < 7 else "x" * 10**7, zip=True)
                options["pnginfo"] = info
            case "profile":
                options["icc_profile"] = bytes(made.number * 20)
            case "several frames":
                options |= {"save_all": True, "append_images": [image] * made.number}
            case "transparency":
                options["transparency"] = made.number
        image.save(buffer, made.format, **options)
    except Exception:  # whatever Pillow does not write is no input
        return None
    data = buffer.getvalue()
    for one in made.damage:
        data = damaged(data, one)
    return data
