"""The one way in for pictures: the usual formats become RGB, upright, on white, in sRGB; others raise an error."""

from __future__ import annotations

import mmap
import re
import stat
import struct
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import CorruptFileError, PrivFedTalkError
from common.native_output import without_native_words
from common.text.foreign import one_line
from preparation.media.colours import first_number, plain_rgb
from preparation.media.container import DEFAULT_LIMITS, opened
from preparation.media.limits import BeyondLimitError
from preparation.media.track.frames import Frame
from preparation.media.video import open_video
from preparation.settings import MediaSettings

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
"""The accepted formats; some of Pillow's other formats start other programs."""

HEIF_BRANDS = frozenset(
    b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 mif3 msf1 miaf avci avcs jpgs j2ki j2is vvic vvis".split()
)
"""ISO/IEC 23008-12: stills coded as HEVC, AVC, JPEG and others, of which FFmpeg shows one tile of 512 x 512 pixels."""
AVIF_BRANDS = frozenset({b"avif", b"avis"})

STILLS = re.compile(r"image2|.*_pipe|ico|gif|apng|webp.*|mjpeg")
"""FFmpeg's readers of pictures, by name. `mjpeg` finds a JPEG wherever it lies in a file: in a PDF, in a raw photo."""

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""ITU-T H.273: transfer curves whose pictures look pale when read as sRGB."""
_CICP = re.compile(rb"\x89PNG.*cICP.(.)|ftyp.*colrnclx..\0(.)", re.DOTALL)

MOST_SCANS, MOST_SEGMENTS = 100, 10_000
"""Largest numbers in a JPEG. Programs write up to 20 scans; a scan of 100 bytes goes once through all pixels, which
takes a tenth of a second for 64 million."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA

_HEAD_BYTES = 1 << 16
_ORIENTATION, _REDUCED, _DNG = 0x0112, 254, 50706
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes a picture upright, by the value of EXIF's orientation."""

_SAVE_ANEW = "open it in a picture editor and save it anew as JPEG or PNG, or copy it again"
_EXPORT = "export it as JPEG or PNG (sRGB) and give that"


def open_picture(path: Path, limits: MediaSettings = DEFAULT_LIMITS) -> Frame:
    """The pixels of a picture file as people see it: uint8 [H, W, 3], RGB; of a clip, those of its first frame.

    Upright by EXIF's orientation (a broken one is ignored), converted to sRGB by a valid colour profile, with
    transparency on white. Pictures of 16 bits, integers and floats are scaled by their range. Of several pictures in
    one file the first is taken.

    Raises PrivFedTalkError, which names the file, the reason and the remedy; for a picture above
    `limits.pixels_a_picture`, before its pixels are decompressed.
    """
    head, size = _begin(path)
    _refuse_by_name(path, head)
    if not _is_picture(head):
        return _first_frame(path, limits)
    # Pillow warns of broken metadata and of large pictures; both are handled here. For a broken TIFF, Pillow and its
    # library write to the terminal before they raise the error.
    quiet = without_native_words() if head[:2] in (b"II", b"MM") else nullcontext()
    try:
        with warnings.catch_warnings(), quiet:
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _check_bytes(path, size, limits)
            # An open file, not its name: given a name, Pillow maps uncompressed TIFFs into memory, and those that are
            # stored sideways with rows of the upright width, which puts their pixels in disorder.
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                _check(path, image, limits)
                plain = plain_rgb(image)
                turn = _UPRIGHT.get(_orientation(image))
                return np.array(plain if turn is None else plain.transpose(turn))
    except PrivFedTalkError:
        raise
    except UnidentifiedImageError as error:
        raise _broken(path, "it is damaged") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 179 million pixels") from error
    except MemoryError as error:
        raise _broken(path, "there is not enough memory for it") from error
    except Exception as error:  # broken files end in errors of any type: KeyError, struct.error, RecursionError …
        raise _broken(path, one_line(error) or type(error).__name__) from error


def _begin(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file and its size. Raises PrivFedTalkError for folders, and for pipes, which never end."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PrivFedTalkError(f"{path.name or path} is a folder, not a picture", "give one file of it")
        if not stat.S_ISREG(status.st_mode):
            raise PrivFedTalkError(f"{path.name} is no ordinary file", "save the picture to a file and give that")
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES), status.st_size
    except FileNotFoundError as error:
        raise PrivFedTalkError(f"there is no picture {path}", "check the path given as --reference") from error
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise PrivFedTalkError(f"{path.name} cannot be read: {reason}", "check its name and permissions") from error


def _refuse_by_name(path: Path, head: bytes) -> None:
    """Refuse pictures that would silently be read wrongly: HEIC (one tile only) and high dynamic range (as sRGB)."""
    brand, others = _brands(head)
    if brand in HEIF_BRANDS and not AVIF_BRANDS & others:
        raise CorruptFileError(
            f"{path.name} is a HEIF picture ({brand.decode()}: HEIC, as telephones take them), which is not read here",
            "export it as JPEG and give that (iPhone: Settings, Camera, Formats, Most Compatible)",
        )
    # A clip's transfer curve is handled by the reader of clips.
    found = _CICP.search(head) if not brand or AVIF_BRANDS & {brand, *others} else None
    transfer = HDR_TRANSFERS.get(ord(found[1] or found[2])) if found else None
    if transfer is not None:
        raise CorruptFileError(f"{path.name} is a picture of high dynamic range ({transfer})", _EXPORT)


def _brands(head: bytes) -> tuple[bytes, set[bytes]]:
    """The major brand and the compatible brands of an ISO media file; empty for other files."""
    if head[4:8] != b"ftyp":
        return b"", set()
    (length,) = struct.unpack(">I", head[:4])
    return head[8:12], {head[place : place + 4] for place in range(16, min(length, len(head)), 4)}


def _is_picture(head: bytes) -> bool:
    """Whether a file begins like one of FORMATS; only those are opened as pictures, others may be clips."""
    Image.init()
    accepts = (Image.OPEN[name][1] for name in FORMATS if name in Image.OPEN)
    return any(accept is not None and accept(head[:16]) is True for accept in accepts)


def _check_bytes(path: Path, size: int, limits: MediaSettings) -> None:
    """Refuse a file larger than any picture within the limits: some formats are read whole before their header."""
    if size > 8 * limits.pixels_a_picture + 2**24:
        raise _too_large(path, f"{size / 1e9:.1f} GB")


def _check(path: Path, image: Image.Image, limits: MediaSettings) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise _broken(path, f"it has {width} x {height} pixels")
    if width * height > limits.pixels_a_picture:
        raise _too_large(path, f"{width} x {height} pixels")
    if image.format in ("JPEG", "MPO"):
        _check_scans(path)
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if _DNG in tags or first_number(tags.get(_REDUCED), 0) & 1:
        raise CorruptFileError(f"{path.name} is a raw photograph or only a preview of one", _EXPORT)


def _check_scans(path: Path) -> None:
    """Refuse a JPEG of so many scans, each through the whole picture, that decoding takes minutes."""
    scans = segments = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = 0
        while (found := _MARKER.search(data, place)) and found[0][1] != _END:
            place, kind = found.end(), found[0][1]
            if kind != _START:
                place += int.from_bytes(data[place : place + 2], "big")
            scans, segments = scans + (kind == _SCAN), segments + 1
            if scans > MOST_SCANS or segments > MOST_SEGMENTS:
                raise _broken(path, f"it is a JPEG of more than {MOST_SCANS} scans or {MOST_SEGMENTS} segments")


def _orientation(image: Image.Image) -> int:
    """The orientation by EXIF or XMP of a picture that was read; 1, upright, where it is broken.

    Pillow turns a TIFF while it reads it, and removes the tag.
    """
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata raises errors of any type in Pillow, and should not lose the picture
        return 1
    return value if isinstance(value, int) else 1


def _first_frame(path: Path, limits: MediaSettings) -> Frame:
    """The first frame of a clip. Pictures that only FFmpeg reads are refused: they may have transparency, layers or
    tiles that it does not show."""
    try:
        with opened(path, limits) as container:
            kind = str(container.format.name)
        if not STILLS.fullmatch(kind):
            return next(open_video(path, limits).frames())
    except BeyondLimitError:
        raise
    except (CorruptFileError, StopIteration) as error:
        raise CorruptFileError(
            f"{path.name} is no picture that can be read, and no clip", "give a JPEG, PNG, WebP or TIFF file, or an MP4"
        ) from error
    raise CorruptFileError(f"{path.name} is no picture that can be read here ({kind.removesuffix('_pipe')})", _EXPORT)


def _broken(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(f"{path.name} cannot be read: {reason}", _SAVE_ANEW)


def _too_large(path: Path, size: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path.name} has {size}",
        "give a smaller picture (a face of a few hundred pixels is enough), or raise "
        "preparation.corpus.media.pixels_a_picture",
    )
