"""The packet index of a picture track: when its pictures are shown, and whether the file holds all of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError
from preparation.media.container import PLAY_IT
from preparation.media.limits import Meter, longest_gap
from preparation.media.rates import FPS


@dataclass(frozen=True)
class Index:
    """`frames` pictures are shown at `fps` and last `seconds`, by their number and rate, or by their timestamps where
    these say longer. times: float64 [N], when each stored picture is shown, seconds, in order; the last picture is held
    until `held_until` where the file drops the frames after it."""

    frames: int
    fps: float
    seconds: float
    times: NDArray[np.float64]
    held_until: float | None


class Indexer:
    """Makes an index of packets, and checks it against the bounds and the header."""

    def __init__(self, container: Any, stream: Any, path: Path, meter: Meter) -> None:
        self._container, self._stream, self._path, self._meter = container, stream, path, meter
        self._packets = 0
        self._times: list[int] = []

    def note(self, packet: Any) -> None:
        """Add a packet; an empty one holds no picture."""
        if packet.size:
            self._packets += 1
            if packet.pts is not None and not packet.is_discard:
                self._times.append(packet.pts)

    def index(self) -> Index:
        """The index. Raises CorruptFileError where there are no pictures, or fewer than the header promises."""
        path, stream, base = self._path, self._stream, self._stream.time_base or 0
        if self._packets == 0:
            raise CorruptFileError(f"{path.name} holds no picture", remedy=PLAY_IT)
        fps = float(stream.average_rate or stream.guessed_rate or FPS)
        timestamp_seconds = float((max(self._times) - min(self._times)) * base) if self._times else 0.0
        pictures, promised = self._packets, int(stream.frames)
        drops = self._container.format.name == "avi" and promised > pictures and not _ends_early(path)
        if drops:  # as zero-length chunks, which FFmpeg skips
            pictures = promised
        if promised > 1.02 * pictures + 2:
            raise CorruptFileError(
                f"{path.name} promises {promised} frames and holds {pictures}: it is truncated", remedy=PLAY_IT
            )
        seconds = max(pictures / fps, timestamp_seconds)
        self._meter.gap(longest_gap(self._times, base))
        self._meter.total(self._packets, seconds)
        times = np.sort(np.array(self._times, np.float64)) * float(base)
        held_until = float(times[0]) + (pictures - 1) / fps if drops and len(times) else None
        if held_until is not None:
            self._meter.gap(held_until - float(times[-1]))
        return Index(pictures, round(fps, 6), round(seconds, 6), times, held_until)


def _ends_early(path: Path) -> bool:
    """Whether an AVI is shorter than its RIFF chunks say."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            name, length = struct.unpack("<4sI", file.read(8))
            if name != b"RIFF":
                return False
            place += 8 + length + length % 2
    return place > size + 1
