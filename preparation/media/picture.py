"""One way in for pictures: any of the usual formats to RGB, upright, on white, in sRGB; or an error with a remedy."""

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
"""What a picture may be; Pillow knows formats that start other programs."""

HEIF_BRANDS = frozenset(
    b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 mif3 msf1 miaf avci avcs jpgs j2ki j2is vvic vvis".split()
)
"""ISO/IEC 23008-12: stills coded as HEVC, AVC, JPEG and others. FFmpeg shows one tile of them, 512 x 512 pixels."""
AVIF_BRANDS = frozenset({b"avif", b"avis"})

STILLS = re.compile(r"image2|.*_pipe|ico|gif|apng|webp.*|mjpeg")
"""FFmpeg's readers of pictures, by name. `mjpeg` finds a JPEG wherever it lies in a file: in a PDF, in a raw photo."""

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""ITU-T H.273: curves that look pale where they are taken for sRGB's."""
_CICP = re.compile(rb"\x89PNG.*cICP.(.)|ftyp.*colrnclx..\0(.)", re.DOTALL)

MOST_SCANS, MOST_SEGMENTS = 100, 10_000
"""Of a JPEG. Programs write up to 20 scans; a scan of 100 bytes goes once through all pixels, a tenth of a second for
64 million."""
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
"""How a picture is turned, or mirrored, by the value of EXIF's orientation."""

_SAVE_ANEW = "open it in a picture editor and save it anew as JPEG or PNG, or copy it again"
_EXPORT = "export it as JPEG or PNG (sRGB) and give that"


def open_picture(path: Path, limits: MediaSettings = DEFAULT_LIMITS) -> Frame:
    """The pixels of a picture file as people see it: uint8 [H, W, 3], RGB; of a clip, those of its first frame.

    Upright by EXIF's orientation (a broken one is passed over), in sRGB where a valid profile says from what, with
    transparency on white. Pictures of 16 bits, integers and floats are scaled by their range. Of several pictures in
    one file the first is taken.

    Raises PrivFedTalkError that names the file, the reason and what to do; for a picture above
    `limits.pixels_a_picture` before its pixels are unpacked.
    """
    head, size = _begin(path)
    _refuse_by_name(path, head)
    if not _is_picture(head):
        return _first_frame(path, limits)
    # Pillow warns of broken descriptions and of large pictures; both are dealt with here. Of what is wrong with a TIFF,
    # it and its library write to the terminal before they raise it.
    quiet = without_native_words() if head[:2] in (b"II", b"MM") else nullcontext()
    try:
        with warnings.catch_warnings(), quiet:
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _check_bytes(path, size, limits)
            # A file, not its name: by that Pillow would map uncompressed TIFFs into memory, lying ones with rows of the
            # upright width, so that their pixels come out in disorder.
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
    """The first bytes of an ordinary file, and how many there are in all; of a pipe one would wait for ever."""
    try:
        there = path.stat()
        if stat.S_ISDIR(there.st_mode):
            raise PrivFedTalkError(f"{path.name or path} is a folder, not a picture", "give one file of it")
        if not stat.S_ISREG(there.st_mode):
            raise PrivFedTalkError(f"{path.name} is no ordinary file", "save the picture to a file and give that")
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES), there.st_size
    except FileNotFoundError as error:
        raise PrivFedTalkError(f"there is no picture {path}", "check the path given as --reference") from error
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise PrivFedTalkError(f"{path.name} cannot be read: {reason}", "check its name and permissions") from error


def _refuse_by_name(path: Path, head: bytes) -> None:
    """Refuse what would be read wrongly without a word: HEIC's tiles, and high dynamic range as if it were none."""
    brand, others = _brands(head)
    if brand in HEIF_BRANDS and not AVIF_BRANDS & others:
        raise CorruptFileError(
            f"{path.name} is a HEIF picture ({brand.decode()}: HEIC, as telephones take them), which is not read here",
            "export it as JPEG and give that (iPhone: Settings, Camera, Formats, Most Compatible)",
        )
    # Of a clip, the reader of clips looks at the curve.
    found = _CICP.search(head) if not brand or AVIF_BRANDS & {brand, *others} else None
    transfer = HDR_TRANSFERS.get(ord(found[1] or found[2])) if found else None
    if transfer is not None:
        raise CorruptFileError(f"{path.name} is a picture of high dynamic range ({transfer})", _EXPORT)


def _brands(head: bytes) -> tuple[bytes, set[bytes]]:
    """The major brand and the compatible ones of an ISO media file; of others, none."""
    if head[4:8] != b"ftyp":
        return b"", set()
    (length,) = struct.unpack(">I", head[:4])
    return head[8:12], {head[place : place + 4] for place in range(16, min(length, len(head)), 4)}


def _is_picture(head: bytes) -> bool:
    """Whether a file begins as one of FORMATS does; only those are opened, the rest may be clips."""
    Image.init()
    accepts = (Image.OPEN[name][1] for name in FORMATS if name in Image.OPEN)
    return any(accept is not None and accept(head[:16]) is True for accept in accepts)


def _check_bytes(path: Path, size: int, limits: MediaSettings) -> None:
    """Some formats are read whole before their header is looked at: no picture within the limits is as large."""
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
    """Refuse a JPEG that takes minutes: of many scans, each through the whole picture."""
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
    """EXIF's orientation, or XMP's, of a picture that was read; 1, upright, where that is broken.

    Pillow turns TIFF while it reads, and takes the tag away.
    """
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # what a broken description makes Pillow raise is of any type, and no reason to lose the picture
        return 1
    return value if isinstance(value, int) else 1


def _first_frame(path: Path, limits: MediaSettings) -> Frame:
    """The first frame of what FFmpeg takes for a clip: a picture of a kind that it alone knows may have transparency,
    layers or tiles that it does not show."""
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
