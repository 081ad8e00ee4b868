"""Bounds on what one media file may expand to, checked before its frames are decoded or filled up to 25 a second.

A file of a few kilobytes can hold timestamps that are hours apart, frames of a billion pixels, or a header that lies
about both. Every bound is a setting (`preparation.corpus.media`), and every error names the file and that setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError
from preparation.settings import MediaSettings

PATIENCE_SECONDS = 120.0
"""How long FFmpeg may take to open a file, or to find its next packet."""

_FPS = 25
_RAISE = "if it is what it claims to be, cut it into shorter clips or raise preparation.corpus.media."


class BeyondLimitError(CorruptFileError):
    """A readable file that holds more than the limits allow."""


def open_options(limits: MediaSettings) -> dict[str, str]:
    """Options for FFmpeg to open a file: only local files, and no frame above the bound."""
    return {"max_pixels": str(limits.pixels_a_frame), "max_streams": "100", "protocol_whitelist": "file"}


REFERRING = frozenset({"applehttp", "concat", "dash", "hls", "imf", "rtsp", "sdp"})
"""FFmpeg's formats that are lists of other files; files that such a list names are not part of the corpus."""


def check_format(name: str, path: Path) -> None:
    """Refuse a playlist that poses as a clip."""
    if REFERRING & set(name.split(",")):
        raise CorruptFileError(
            f"{path.name} is a list of other files ({name}), not a clip", remedy="give the clip itself"
        )


class Meter:
    """Counts what has been read of one file's pictures; raises CorruptFileError at the first bound that is passed."""

    def __init__(self, path: Path, limits: MediaSettings) -> None:
        self._path, self._limits = path, limits
        self._frames, self._seconds, self._pixels = 0, 0.0, 0

    def packet(self, count: int) -> None:
        """Check that `count` packets, empty ones included, are within the bound."""
        if count > self._limits.frames:
            raise _too(self._path, f"holds more than {self._limits.frames} frames", "frames")

    def gap(self, seconds: float) -> None:
        """Check the time between two neighbouring frames."""
        if seconds > self._limits.longest_gap_seconds:
            raise BeyondLimitError(
                f"{self._path.name} has a hole of {seconds:.0f} s between two frames",
                remedy="play it to see whether it is whole and copy or download it again; if it is, cut it there or "
                "raise preparation.corpus.media.longest_gap_seconds",
            )

    def size(self, width: int, height: int) -> None:
        """Check a frame's size, given by a header or decoded."""
        if width * height == 0:  # FFmpeg leaves no size where nothing can be decoded, and none above the bound
            most = self._limits.pixels_a_frame
            raise CorruptFileError(
                f"{self._path.name} cannot be decoded, or its frames have more than {most} pixels",
                remedy=f"play it to see whether it is whole; {_RAISE}pixels_a_frame",
            )
        if width * height > self._limits.pixels_a_frame:
            raise _too(self._path, f"has frames of {width} x {height} pixels", "pixels_a_frame")

    def frame(self, width: int, height: int, seconds: float) -> None:
        """Count one more frame, which is shown for `seconds`, and check all bounds."""
        self.size(width, height)
        self.total(self._frames + 1, self._seconds + seconds)
        self._frames, self._seconds = self._frames + 1, self._seconds + seconds
        self._pixels += width * height * max(1, round(seconds * _FPS))
        self.pixels(self._pixels)

    def total(self, frames: int, seconds: float) -> None:
        """Check the number of frames and their total length."""
        limits = self._limits
        if frames > limits.frames or seconds > limits.longest_seconds:
            raise _too(self._path, f"has {max(frames, round(seconds * _FPS))} frames ({seconds:.0f} s)", "frames")
        # A single hole is checked in `gap`.
        if seconds > frames / limits.slowest_fps + limits.longest_gap_seconds:
            raise _too(
                self._path, f"shows {frames} pictures in {seconds:.0f} s, too few to be filmed speech", "slowest_fps"
            )

    def pixels(self, pixels: float) -> None:
        """Check the number of pixels of all frames together."""
        if pixels > self._limits.pixels:
            raise _too(self._path, f"holds more than {self._limits.pixels:.3g} pixels in all its frames", "pixels")


def check_sound(path: Path, seconds: float, limits: MediaSettings) -> None:
    """Refuse sound that lasts, or begins, after the longest file has ended."""
    if seconds > limits.longest_seconds:
        raise _too(path, f"has sound beyond {limits.longest_seconds:.0f} s", "frames")


def longest_gap(times: Iterable[int], time_base: Any) -> float:
    """The longest time between two neighbours of `times`, seconds; `times` are in units of `time_base` seconds, in any
    order."""
    ordered = sorted(times)
    widest = max((after - before for before, after in pairwise(ordered)), default=0)
    return float(widest * time_base)


def _too(path: Path, what: str, setting: str) -> BeyondLimitError:
    return BeyondLimitError(f"{path.name} {what}", remedy=f"remove it; {_RAISE}{setting}")
