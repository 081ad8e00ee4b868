"""Count a file's pictures that cannot be decoded, and refuse a file with too many of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError

from common.errors import CorruptFileError
from preparation.media.container import PLAY_IT, RE_ENCODE
from preparation.media.track.index import Index
from preparation.settings import MediaSettings


class Damage:
    """Counts the stored pictures that cannot be decoded; raises CorruptFileError when they are more than
    `limits.lost_share` of all.

    Some decoders leave out pictures without an error. Such a picture is missing in time, and its packet gives no frame.
    Either alone proves nothing: timestamps can be wrong, and packets can hold fields, or pictures that are never shown.
    """

    def __init__(self, path: Path, limits: MediaSettings, index: Index, codec: Any) -> None:
        self._path, self._index, self._codec = path, index, codec
        self._most = math.ceil(limits.lost_share * index.frames)
        self._errors, self._flawed, self._missing = 0, 0, 0
        self._packets, self._frames, self._ended = 0, 0, False
        self._last_error: str | None = None
        self._last: float | None = None
        self._untimed = 0

    @property
    def lost(self) -> int:
        held_back = 0 if self._ended else self._codec.reorder_depth
        return self._flawed + max(self._errors, min(self._missing, self._packets - self._frames - held_back))

    def packet(self, count: int = 1) -> None:
        """Count packets that went to the decoder."""
        self._packets += count

    def error(self, error: FFmpegError) -> None:
        """Count a packet that the decoder refused."""
        self._errors, self._last_error = self._errors + 1, error.strerror
        self._check()

    def frame(self, frame: Any) -> None:
        """Count a frame that was decoded, perhaps only in part."""
        self._frames += 1
        self._flawed += bool(frame.is_corrupt)
        if frame.time is None:
            self._untimed += 1
        else:
            if self._last is not None:
                self._missing += max(0, self._stored(self._last, frame.time) - self._untimed)
            self._last, self._untimed = frame.time, 0
        self._check()

    def begin(self, time: float | None) -> None:
        """Note that the file's first decoded frame is shown at `time`; pictures stored before it count as lost."""
        if time is not None and len(self._index.times):
            self._missing += self._stored(float(self._index.times[0]) - 1 / self._index.fps, time)
        self._check()

    def end(self) -> None:
        """Note that the last packet was read; pictures stored after the last frame count as lost."""
        if self._last is not None and len(self._index.times):
            after = self._stored(self._last, float(self._index.times[-1]) + 1 / self._index.fps)
            self._missing += max(0, after - self._untimed)
        self._ended = True
        self._check()

    def _stored(self, begin: float, end: float) -> int:
        """How many pictures are stored between two moments, at most as many as fit between them at the clip's rate."""
        step = 1 / self._index.fps
        if end - begin < 1.5 * step:
            return 0
        first, last = np.searchsorted(self._index.times, (begin + step / 2, end - step / 2))
        return int(min(last - first, round((end - begin) / step) - 1))

    def _check(self) -> None:
        if self.lost > self._most:
            because = f" ({self._last_error})" if self._last_error else ""
            raise CorruptFileError(
                f"{self._path.name}: {self.lost} of its {self._index.frames} pictures cannot be decoded{because}",
                remedy=f"{PLAY_IT}, or {RE_ENCODE}; what is lost may be more where preparation.corpus.media.lost_share "
                "is raised",
            )
