"""Decoded pictures: converted to RGB only where they are used, and kept in memory only in part where that is enough."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from preparation.media.track.display import UPRIGHT, Size, centred, turn_of
from preparation.media.track.tones import complete_tags, is_beyond_709, to_709

Frame = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are exclusive."""

GRID = 32
"""Parts of pictures start and end at multiples of this: so they hold whole pairs of pixels, which share their colour,
and the converter is rarely made anew, which happens when a part's size changes."""


class Painter:
    """Converts decoded frames to RGB, with one converter for a whole clip and one thread.

    By default PyAV makes a converter for each frame, with threads for all cores, so that workers compete: at 512 pixels
    that took five times as long on a busy machine, and a tenth longer on an idle one.
    """

    def __init__(self, size: Size | None = None) -> None:
        """`size`: width and height of every upright frame; smaller ones are put in its middle."""
        self._converter = VideoReformatter()
        self.size = size

    def rgb(self, frame: Any) -> Frame:
        """The whole frame as stored in the file."""
        if is_beyond_709(frame):
            complete_tags(frame)
            # Planar, because the scaler leaves a last odd column of interleaved 16-bit pixels unwritten.
            signal = self._converter.reformat(frame, format="gbrp16le", threads=1).to_ndarray()
            return to_709(signal.astype(np.uint16, copy=False), frame.color_trc, frame.color_primaries)
        return np.asarray(self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray())

    def upright(self, frame: Any) -> Frame:
        """The whole frame as it is to be shown (phones store portrait clips sideways).

        Contiguous: PyAV may give a view with padded rows, which MediaPipe would read as if there were no padding.
        """
        pixels = turn_of(frame).of(self.rgb(frame))
        if self.size is not None and pixels.shape[1::-1] != self.size:
            pixels = centred(pixels, self.size)
        return np.ascontiguousarray(pixels)


class Picture:
    """A decoded frame before its conversion to RGB, which takes as long as decoding for large pictures.

    `np.asarray(picture)` is the whole picture, uint8 [H, W, 3]; `draw` converts a part of it, to the same values.
    `trim` drops all but a part.
    """

    def __init__(self, frame: Any, painter: Painter) -> None:
        self._painter = painter
        self._frame = frame
        self._origin = (0, 0)
        size = (frame.width, frame.height)
        self.width, self.height = painter.size or turn_of(frame).size(size)
        # Other pictures, which are rare, are converted whole.
        self._plain = (
            frame.format.name == "yuv420p"
            and frame.width % 2 == frame.height % 2 == 0
            and size == (self.width, self.height)
            and turn_of(frame) == UPRIGHT
            and not is_beyond_709(frame)
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        assert self._whole, "the picture was trimmed"
        pixels = self._painter.upright(self._frame)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    @property
    def bytes(self) -> int:
        """About how many bytes it holds in memory."""
        return int(self._frame.width * self._frame.height * 3 // 2)

    @property
    def _whole(self) -> bool:
        return not self._plain or (self._frame.width, self._frame.height) == (self.width, self.height)

    def covers(self, box: Box) -> bool:
        """Whether the picture still holds the pixels that `draw` needs for this box."""
        left, top, right, bottom = self._on_grid(box)
        x, y = self._origin
        return self._whole or (
            x <= left and y <= top and right <= x + self._frame.width and bottom <= y + self._frame.height
        )

    def trim(self, box: Box) -> None:
        """Drop the pixels outside the box."""
        if self._plain and self.covers(box):
            left, top, right, bottom = self._on_grid(box)
            self._frame, self._origin = self._cut(left, top, right, bottom), (left, top)

    def draw(self, box: Box, canvas: Frame | None) -> Frame:
        """A picture whose pixels are right inside the box, as far as it is in the picture; written into `canvas` where
        that has the picture's size."""
        if not self._plain:
            return np.asarray(self)
        if canvas is None or canvas.shape[:2] != (self.height, self.width):
            canvas = np.zeros((self.height, self.width, 3), np.uint8)
        left, top, right, bottom = self._on_grid(box)
        canvas[top:bottom, left:right] = self._painter.rgb(self._cut(left, top, right, bottom))
        return canvas

    def _on_grid(self, box: Box) -> Box:
        left, right = _grid(box[0], box[2], self.width)
        top, bottom = _grid(box[1], box[3], self.height)
        return left, top, right, bottom

    def _cut(self, left: int, top: int, right: int, bottom: int) -> Any:
        frame, (x, y) = self._frame, self._origin
        part = av.VideoFrame(right - left, bottom - top, "yuv420p")
        part.colorspace, part.color_range = frame.colorspace, frame.color_range
        for plane, source, half in zip(part.planes, frame.planes, (1, 2, 2), strict=True):
            there = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
            here = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            rows, columns = (bottom - top) // half, (right - left) // half
            first_row, first_column = (top - y) // half, (left - x) // half
            here[:rows, :columns] = there[first_row : first_row + rows, first_column : first_column + columns]
        return part


def _grid(low: int, high: int, length: int) -> tuple[int, int]:
    """Start and end (exclusive) of a stretch of a line of even `length`, clipped to the line and widened to multiples
    of GRID within it."""
    first = int(np.clip(low, 0, length - 2)) // GRID * GRID
    last = -(-int(np.clip(high + 1, 2, length)) // GRID) * GRID
    return first, min(max(last, first + 2), length)
