"""How a decoded frame is to be shown: upright, not mirrored, with square pixels, in the frame of its clip."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""width, height in pixels."""


class Orientation(NamedTuple):
    """How to make a frame upright: first transpose it, then flip it."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether it mirrors the frame, which no turn alone does."""
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def turned(self) -> bool:
        """Whether it turns the frame; False where the frame is at most mirrored left to right."""
        return self.transposed or self.flipped_y

    def size(self, size: Size) -> Size:
        """The size after the change; applied twice, it gives the first size again."""
        return (size[1], size[0]) if self.transposed else size

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels [H, W, 3] made upright; a view, not a copy."""
        upright = pixels.swapaxes(0, 1) if self.transposed else pixels
        return upright[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]


UPRIGHT = Orientation()


NAMES_PROFILES = frozenset({"apng", "png"})
"""Codecs whose colour profiles have a name, which PyAV frees a second time once side data was read: the process then
crashes at any moment. For these codecs only the rotation is known, which is read in another way."""


def orientation(frame: Any, codec: str = "") -> Orientation | None:
    """The orientation by the display matrix of the container or of the stream itself (H.264, HEVC); None where a frame
    has no matrix. For a `codec` of `NAMES_PROFILES` it is the rotation alone.

    A pixel (p, q) is shown at (a p + c q, b p + d q), y pointing down (libavutil/display.h); turns are rounded to
    quarter turns.
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
    """The orientation of each frame of a stream: a matrix in the coded stream comes with a key frame only, and holds
    until the next key frame."""

    def __init__(self, codec: str) -> None:
        self._codec, self._now = codec, UPRIGHT

    def of(self, frame: Any) -> Orientation:
        stated = orientation(frame, self._codec)
        if stated is not None or frame.key_frame:
            self._now = stated or UPRIGHT
        return self._now


def mark_turn(frame: Any, turn: Orientation) -> None:
    """Mark a decoded frame with the orientation to apply when it is converted."""
    frame.opaque = None if turn == UPRIGHT else Orientation(*turn)  # PyAV needs a separate object for each frame


def turn_of(frame: Any) -> Orientation:
    """The orientation that a frame was marked with."""
    return frame.opaque or UPRIGHT


def _turned(degrees: float) -> Orientation:
    """The orientation of a counter-clockwise turn, rounded to quarter turns."""
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
    """The largest even size of the same shape that fits into the size `into`."""
    scale = min(Fraction(into[0], size[0]), Fraction(into[1], size[1]))
    return min(_even(size[0] * scale), into[0]), min(_even(size[1] * scale), into[1])


def centred(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The pixels in the middle of a black frame of `size`."""
    width, height = size
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))
