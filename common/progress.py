"""Progress that is always visible: one line in a terminal, one line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from common.text.foreign import printable

T = TypeVar("T")

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 5.0


class Meter:
    """Count, rate and time left on standard error, advanced by hand: for work that is not a loop over what it counts.

    A terminal gets one line that rewrites itself; a file or pipe gets a new line every five seconds, so that
    the log of an unattended run stays short.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "") -> None:
        self.what, self.total, self.unit = what, total, unit
        self._terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self._done = 0.0

    def advance(self, by: float = 1) -> None:
        """Count `by` units, possibly a fraction, and show a new line when the last one is old enough."""
        self._done += by
        now = time.monotonic()
        if now - self._shown >= (TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            self._shown = now
            _show(_line(self.what, self._done, self.total, now - self._started, self.unit), self._terminal)

    def close(self) -> None:
        """Write the last line, in which the count is also the total."""
        # Fractions add up to whole units except for rounding.
        done = round(self._done)
        seconds = time.monotonic() - self._started
        _show(_line(self.what, done, done, seconds, self.unit), self._terminal, last=True)


def track(iterable: Iterable[T], what: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yield from `iterable` and report count, rate and time left on standard error, as `Meter` does."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    meter = Meter(what, total, unit)
    for item in iterable:
        yield item
        meter.advance()
    meter.close()


def _line(what: str, done: float, total: int | None, seconds: float, unit: str) -> str:
    rate = done / max(seconds, 1e-9)
    of = f"/{total}" if total else ""
    left = f", {(total - done) / rate:.0f} s left" if total and total > done and rate > 0 else ""
    return f"{what}: {int(done)}{of} {unit}".rstrip() + f" ({rate:.1f}/s, {seconds:.0f} s{left})"


def _show(line: str, terminal: bool, last: bool = False) -> None:
    line = printable(line)  # what is counted may be named by people
    sys.stderr.write(f"\r\x1b[2K{line}" + ("\n" if last else "") if terminal else line + "\n")
    sys.stderr.flush()
