"""How a decoded frame is to be shown: upright, not mirrored, with square pixels, in the frame of its clip."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""width, height in pixels."""


class Orientation(NamedTuple):
    """What makes a frame stand upright: first its rows become columns, then it is flipped."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether no turn alone would do it."""
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def turned(self) -> bool:
        """Whether mirroring left and right alone would not do it."""
        return self.transposed or self.flipped_y

    def size(self, size: Size) -> Size:
        """What a size becomes; it is its own inverse."""
        return (size[1], size[0]) if self.transposed else size

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels [H, W, 3] upright; a view of them."""
        upright = pixels.swapaxes(0, 1) if self.transposed else pixels
        return upright[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]


UPRIGHT = Orientation()


NAMES_PROFILES = frozenset({"apng", "png"})
"""Codecs whose colour profiles bring a name along, which PyAV frees a second time once it was looked at: the process
dies of it, at whatever moment. Of them the turn alone is known, which is asked for in another way."""


def orientation(frame: Any, codec: str = "") -> Orientation | None:
    """The orientation that the display matrix of the container, or of the stream itself (H.264, HEVC), asks for; None
    where a frame of that `codec` has none.

    A pixel (p, q) is shown at (a p + c q, b p + d q), y pointing down (libavutil/display.h); other than quarter turns
    are rounded to them.
    """
    if codec in NAMES_PROFILES:
        return _turned(frame.rotation)
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV has no name for
        return _turned(frame.rotation)
    if matrix is None:
        return None
    (a, b, _), (c, d, _), _ = np.frombuffer(matrix, np.int32, 9).reshape(3, 3).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


class Turns:
    """The orientation of each frame of a stream: a matrix among the coded pictures stands with a key frame alone, and
    holds until the next."""

    def __init__(self, codec: str) -> None:
        self._codec, self._now = codec, UPRIGHT

    def of(self, frame: Any) -> Orientation:
        said = orientation(frame, self._codec)
        if said is not None or frame.key_frame:
            self._now = said or UPRIGHT
        return self._now


def mark_turn(frame: Any, turn: Orientation) -> None:
    """Write down how a decoded frame is to be turned when it is looked at."""
    frame.opaque = None if turn == UPRIGHT else Orientation(*turn)  # PyAV asks for an object of its own


def turn_of(frame: Any) -> Orientation:
    """What a frame was marked with."""
    return frame.opaque or UPRIGHT


def _turned(degrees: float) -> Orientation:
    """A counter-clockwise turn."""
    quarter = round(degrees / 90) % 4
    return (UPRIGHT, Orientation(True, False, True), Orientation(False, True, True), Orientation(True, True, False))[
        quarter
    ]


def squared(size: Size, aspect: Fraction) -> Size:
    """The size with square pixels, for pixels `aspect` times as wide as high: one side grows, to an even number."""
    width, height = size
    if aspect == 1:
        return size
    if aspect > 1:
        return _even(width * aspect), height
    return width, _even(height / aspect)


def fitted(size: Size, into: Size) -> Size:
    """The largest even size of the same shape that fits into another."""
    scale = min(Fraction(into[0], size[0]), Fraction(into[1], size[1]))
    return min(_even(size[0] * scale), into[0]), min(_even(size[1] * scale), into[1])


def centred(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The pixels in the middle of a black frame of the size."""
    width, height = size
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))
