"""Progress that is always visible: one line in a terminal, one line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 5.0


def track(iterable: Iterable[T], what: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yield from `iterable` and report count, rate and time left on standard error.

    A terminal gets one line that rewrites itself; a file or pipe gets a new line every five seconds, so that
    the log of an unattended run stays short.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    terminal = sys.stderr.isatty()
    started = shown = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - shown >= (TERMINAL_SECONDS if terminal else LOG_SECONDS):
            shown = now
            _show(_line(what, done, total, now - started, unit), terminal)
    _show(_line(what, done, done, time.monotonic() - started, unit), terminal, last=True)


def _line(what: str, done: int, total: int | None, seconds: float, unit: str) -> str:
    rate = done / max(seconds, 1e-9)
    of = f"/{total}" if total else ""
    left = f", {(total - done) / rate:.0f} s left" if total and total > done and rate > 0 else ""
    return f"{what}: {done}{of} {unit}".rstrip() + f" ({rate:.1f}/s, {seconds:.0f} s{left})"


def _show(line: str, terminal: bool, last: bool = False) -> None:
    sys.stderr.write(f"\r\x1b[2K{line}" + ("\n" if last else "") if terminal else line + "\n")
    sys.stderr.flush()
