"""Ctrl-C ends a command within two seconds, whatever it is doing; a second Ctrl-C ends it at once.

Most work ends by itself within a moment: the first Ctrl-C raises an error in the main thread, workers are ended,
temporary files removed. Some work cannot be interrupted (a step inside a library, Dagster between two stages). So a
thread watches for the signal, and ends the process after a grace period. That is safe, because everything is written
whole or not at all: only unfinished work is lost.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from common.errors import INTERRUPTED
from common.files import remove_unfinished

SAID_AFTER_SECONDS, GRACE_SECONDS = 0.5, 1.5
"""How long after Ctrl-C a command that still works says so, and how long it may clean up."""
CHILDREN_SECONDS = 0.3
_LEAVE = b"\0"


class Watcher:
    """Watches for Ctrl-C until the process ends, or until `leave` if it was not pressed.

    `last_words` is called, in the watching thread, before the process is ended by force.
    """

    def __init__(self, last_words: Callable[[], None]) -> None:
        self._last_words = last_words
        self.asked = threading.Event()
        """Set as soon as Ctrl-C was pressed, even where the signal's error was lost."""
        # Duplicates that still lead to the terminal while Dagster redirects a step's output into a file.
        self._streams = [os.dup(1), os.dup(2)]
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="ctrl-c", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Stop watching, unless Ctrl-C was pressed: then the end of the process is watched too."""
        if self.asked.is_set():
            return
        signal.set_wakeup_fd(self._before)
        os.write(self._write, _LEAVE)
        self._thread.join()
        for end in (self._read, self._write, *self._streams):
            os.close(end)

    def _watch(self) -> None:
        if not self._pressed(None):
            return
        self.asked.set()
        if not self._pressed(SAID_AFTER_SECONDS):
            with suppress(OSError):
                os.write(self._streams[1], b"\nstopping: what is in work is given up (Ctrl-C again: at once)\n")
            self._pressed(GRACE_SECONDS - SAID_AFTER_SECONDS)
        self._end()

    def _pressed(self, seconds: float | None) -> bool:
        """Wait for Ctrl-C; False after so many seconds (None: no limit), or once watching is to stop."""
        while select.select([self._read], [], [], seconds)[0]:
            numbers = os.read(self._read, 64)
            if signal.SIGINT in numbers:
                return True
            if _LEAVE[0] in numbers:
                return False
        return False

    def _end(self) -> None:
        end_children()
        remove_unfinished()
        for number, kept in enumerate(self._streams, start=1):
            os.dup2(kept, number)
        self._last_words()
        for stream in (sys.__stdout__, sys.__stderr__):
            with suppress(OSError, ValueError):
                if stream is not None:
                    stream.flush()
        os._exit(INTERRUPTED)


@contextmanager
def watched(last_words: Callable[[], None] = lambda: None) -> Iterator[Watcher | None]:
    """Watch for Ctrl-C while the body runs; None where that is impossible (no main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    watcher = Watcher(last_words)
    try:
        yield watcher
    finally:
        watcher.leave()


def end_children() -> None:
    """Ask all processes below this one to end, and kill those that have not ended after a moment."""
    children = [child for child in psutil.Process().children(recursive=True) if not _cleans_up(child)]
    for child in children:
        with suppress(psutil.Error):
            child.terminate()
    for child in psutil.wait_procs(children, timeout=CHILDREN_SECONDS)[1]:
        with suppress(psutil.Error):
            child.kill()


def _cleans_up(child: psutil.Process) -> bool:
    """Whether it is Python's own process that frees shared memory once all others have ended."""
    try:
        return "resource_tracker" in " ".join(child.cmdline())
    except psutil.Error:
        return False
