"""Sound placed in time: sample n of the result is n / rate after the start, whatever the packets' order and gaps.

A hole in the timestamps becomes silence. Timestamps that only jitter (rounded to milliseconds, priming, packets that
arrived late) move no samples: these follow one after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import ArgumentError
from numpy.typing import NDArray

from preparation.media.limits import BeyondLimitError, check_sound
from preparation.media.sound_track.channels import Levels, one_channel
from preparation.media.sound_track.packets import Timed
from preparation.settings import MediaSettings

HOLE_SECONDS = 0.015
"""A smaller gap is ignored: rounding makes gaps of 1 ms, and the packets of speech codecs last 20 ms."""

OVERLAP_SECONDS = 0.04
"""A smaller overlap is ignored: it is one picture, within which lips and sound still seem in step."""

RESET_SECONDS = 1.0
"""Timestamps that fall back by more than this start anew, as in files that were joined end to end."""

LOOK_AHEAD = 8
"""How many following frames' timestamps must agree that there is a hole: a single late packet makes none."""

PIECES = 20_000
"""Most uninterrupted stretches of sound in a file; each needs a resampler of its own."""


class _Form(NamedTuple):
    """The form of sound that a resampler takes."""

    rate_hz: int
    layout: str
    kind: str


@dataclass
class _Piece:
    """A stretch of sound without a hole and of one rate: its start in seconds, whether it follows directly on the piece
    before, and its samples, int16."""

    seconds: float
    follows: bool
    parts: list[NDArray[np.int16]] = field(default_factory=list)

    def sound(self) -> NDArray[np.int16]:
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.int16)


class Timeline:
    """The frames of a track as pieces of 16-bit mono sound at `rate_hz`.

    `channels` gives, by the name of a layout, the channel to take alone; other layouts are mixed as FFmpeg mixes them.
    Known after `read`: `start` (seconds of the first sample), `filled_seconds` and `trimmed_seconds` (holes and
    overlaps), `resampled` (whether rate or channels change within the track), `resets` (how often time starts anew),
    and `levels` (of each layout).
    """

    def __init__(self, path: Path, rate_hz: int, limits: MediaSettings, channels: Mapping[str, int]) -> None:
        self._path, self._rate_hz, self._limits, self._channels = path, rate_hz, limits, channels
        self._pending: deque[Timed] = deque()
        self._pieces: list[_Piece] = []
        self._resampler: av.AudioResampler | None = None
        self._form: _Form | None = None
        self._origin, self._samples = 0.0, 0
        self._first: float | None = None
        self._shift = 0.0
        self.filled_seconds = self.trimmed_seconds = 0.0
        self.resampled, self.resets = False, 0
        self.levels: dict[str, Levels] = {}

    @property
    def start(self) -> float:
        return self._pieces[0].seconds if self._pieces else 0.0

    def read(self, frames: Iterable[Timed], until: float = float("inf")) -> None:
        """Place the frames in time, up to the first that begins after `until` seconds."""
        for timed in frames:
            self._pending.append(timed)
            if len(self._pending) > LOOK_AHEAD:
                self._place(self._pending.popleft())
            if timed.seconds is not None and timed.seconds > until:
                break
        while self._pending:
            self._place(self._pending.popleft())
        self._end_piece()

    def sound(self, start: float | None = None, samples: int | None = None) -> NDArray[np.int16]:
        """int16 [samples] from `start` seconds on, by default all; zeros where there is no sound."""
        zero = self.start if start is None else start
        placed: list[tuple[int, NDArray[np.int16]]] = []
        end = 0
        for piece in self._pieces:
            sound = piece.sound()
            place = round((piece.seconds - zero) * self._rate_hz)
            # Rounding must not leave a zero between a piece and the one that it follows.
            if piece.follows and abs(place - end) <= 2:
                place = end
            placed.append((place, sound))
            end = place + len(sound)
        if samples is None:
            samples = max((place + len(sound) for place, sound in placed), default=0)
        if len(placed) == 1 and placed[0][0] == 0 and samples == len(placed[0][1]):
            return placed[0][1]
        result = np.zeros(max(0, samples), np.int16)
        for place, sound in placed:
            within = sound[max(0, -place) : max(0, samples - place)]
            result[max(0, place) : max(0, place) + len(within)] = within
        return result

    @property
    def _clock(self) -> float:
        """The time of the next sample, in the file's own time."""
        return self._origin + (self._samples / self._form.rate_hz if self._form else 0.0)

    def _place(self, timed: Timed) -> None:
        frame = timed.frame
        form = _Form(frame.sample_rate, frame.layout.name, frame.format.name)
        if self._form is None:
            self._first = timed.seconds or 0.0
            self._begin(form, self._first, follows=False)
        else:
            self._keep_time(form, timed)
        self._samples += frame.samples
        self._resample(frame, timed.samples)

    def _keep_time(self, form: _Form, timed: Timed) -> None:
        """Begin another piece where the timestamps, the rate or the channels require one."""
        assert self._form is not None
        if form[:2] != self._form[:2]:
            self.resampled = True
        ahead = self._deviations(timed)
        if ahead and min(ahead) > HOLE_SECONDS:
            self.filled_seconds += min(ahead)
            self._begin(form, self._clock + min(ahead), follows=False)
            return
        if ahead and max(ahead) < -OVERLAP_SECONDS:
            if not self._begins_anew(timed, ahead[0]):
                self.trimmed_seconds -= max(ahead)
                self._begin(form, self._clock + max(ahead), follows=False)
                return
            self.resets += 1
            self._shift -= ahead[0]
        if form != self._form:
            self._begin(form, self._clock, follows=True)

    def _deviations(self, timed: Timed) -> list[float]:
        """How many seconds later than without a gap this frame and the frames of the look-ahead begin."""
        if timed.seconds is None:
            return []
        found: list[float] = []
        due = self._clock
        for each in (timed, *self._pending):
            if each.seconds is not None:
                deviation = each.seconds + self._shift - due
                if found and deviation < found[-1] - RESET_SECONDS:
                    break
                found.append(deviation)
            due += each.frame.samples / each.frame.sample_rate
        return found

    def _begins_anew(self, timed: Timed, deviation: float) -> bool:
        assert timed.seconds is not None and self._first is not None
        return deviation < -RESET_SECONDS or timed.seconds <= self._first + HOLE_SECONDS

    def _begin(self, form: _Form, seconds: float, follows: bool) -> None:
        self._end_piece()
        if self._pieces:
            check_sound(self._path, seconds - self.start, self._limits)
        if len(self._pieces) >= PIECES:
            raise BeyondLimitError(
                f"{self._path.name} has sound in more than {PIECES} pieces",
                remedy="its timestamps are broken: make them anew (ffmpeg -i FILE -af aresample=async=1 NEW.mp4)",
            )
        self._pieces.append(_Piece(seconds, follows))
        self._form, self._origin, self._samples = form, seconds, 0
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self._rate_hz)

    def _end_piece(self) -> None:
        if self._pieces and self._resampler is not None:
            self._keep(self._resampler.resample(None))
        self._resampler = None

    def _resample(self, frame: Any, samples: NDArray[Any] | None) -> None:
        layout = frame.layout.name
        if samples is not None and layout in self._channels:
            frame = one_channel(frame, samples[self._channels[layout]])
        elif samples is not None:
            levels = self.levels.setdefault(layout, Levels(frame.layout))
            levels.frame(samples, frame.sample_rate)
            if not levels.mixed:
                return
        assert self._resampler is not None
        try:
            self._keep(self._resampler.resample(frame), layout)
        except ArgumentError:
            if layout not in self.levels:
                raise
            self.levels[layout].mixed = False
            self._resampler = None

    def _keep(self, frames: list[Any], layout: str = "") -> None:
        for each in frames:
            sound = each.to_ndarray()[0]
            self._pieces[-1].parts.append(sound)
            if layout in self.levels:
                self.levels[layout].mix(sound, self._rate_hz)
