"""Small preview pictures: drawn one frame at a time, and grey where something cannot be read.

Previews read files that nobody has checked: a clip may have good headers and broken frames, or be gone by now. Such a
file becomes a grey cell and never fails the stage that shows it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.errors import PrivFedTalkError
from common.text.foreign import one_line
from preparation.media.container import DEFAULT_LIMITS
from preparation.media.track.frames import Frame
from preparation.media.video import open_video
from preparation.settings import MediaSettings

WIDEST = 4
"""Largest width as a multiple of the height, so that a frame of one row becomes no strip of a million pixels."""
NOTE = "cannot be read"


@contextmanager
def for_show(what: str) -> Iterator[None]:
    """Report any error of the block on standard error, with `what` it was to show, and go on.

    Not around the writing of results: it would hide a full disk.
    """
    try:
        yield
    except Exception as error:  # any library may fail: FFmpeg, OpenCV, Pillow, JSON, memory
        reason = error.reason if isinstance(error, PrivFedTalkError) else f"{type(error).__name__}: {one_line(error)}"
        sys.stderr.write(f"{one_line(what)} is not shown: {one_line(reason)}\n")


def grey_cell(height: int, width: int, note: str = NOTE) -> Frame:
    """A cell for what cannot be shown, uint8 [height, width, 3]: grey, with a short note where there is room for it."""
    cell = Image.new("RGB", (width, height), (128, 128, 128))
    font = ImageFont.load_default(max(9, min(14, width // 8)))
    if font.getlength(note) < width:
        ImageDraw.Draw(cell).text((width / 2, height / 2), note, fill=(230, 230, 230), font=font, anchor="mm")
    return np.array(cell)


def fitted(frame: Frame, height: int) -> Frame:
    """The frame resized to `height`, its shape kept up to a width of WIDEST times that: uint8 [height, W, 3]."""
    width = round(frame.shape[1] * height / frame.shape[0])
    return cv2.resize(frame, (min(max(1, width), WIDEST * height), height), interpolation=cv2.INTER_AREA)


def moments(
    path: Path, places: Sequence[int], height: int = 96, limits: MediaSettings = DEFAULT_LIMITS, what: str = ""
) -> list[Frame]:
    """The frames of a clip at these places (in rising order, at 25 a second), each resized by `fitted`.

    At most one frame is in memory at its full size. Places beyond the end are left out; a clip with none of the places,
    or that cannot be read, gives one grey cell. `what` names the clip on standard error, by default the file's name.
    """
    found: list[Frame] = []
    wanted = set(places)
    with for_show(what or path.name):
        for place, picture in enumerate(islice(open_video(path, limits).pictures(), max(wanted, default=-1) + 1)):
            if place in wanted:
                found.append(fitted(np.asarray(picture), height))
    return found or [grey_cell(height, height)]
