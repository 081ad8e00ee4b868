"""Work spread over threads that can be left behind: Ctrl-C does not wait for what a thread cannot interrupt."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from common.errors import INTERRUPTED
from common.files import remove_unfinished

Item = TypeVar("Item")
Result = TypeVar("Result")

_here = threading.local()


class StopAsked(BaseException):
    """Raised by `stop_if_asked` in a thread whose results nobody wants any more. No `Exception`: it is no error."""


def stop_if_asked() -> None:
    """Between two batches of long work: leave this thread of `map_threads` if it has been told to stop; elsewhere,
    do nothing. A thread cannot be interrupted from outside."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    if stop is not None and stop.is_set():
        raise StopAsked


def map_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    computing: bool = True,
    ahead: int | None = None,
) -> Iterator[Result]:
    """Results of `work` on every item, in the order of the items, by `workers` threads.

    For work that torch, FFmpeg and numpy do outside the interpreter's lock: threads share one network, where every
    process would load libraries and weights of its own. While threads are `computing`, each has one core. No item is
    begun more than `ahead` items after the one whose result is taken next, so that results which are large and taken
    slowly do not fill the memory. The first error ends the work: items not yet begun are dropped, those in work are
    waited for. An interruption waits for nothing: threads stop where the work calls `stop_if_asked`, or end with the
    process.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(work, items)
        return
    with _torch_threads_restored():
        crew = _Crew(work, items, workers, computing, len(items) if ahead is None else ahead)
        try:
            crew.begin()
            yield from crew.results()
        except (Exception, GeneratorExit):
            crew.stop()
            crew.join()
            raise
        except BaseException:
            crew.stop()
            atexit.register(_leave_behind, crew)
            raise
        crew.join()


class _Crew(Generic[Item, Result]):
    """Threads that take one item after the other. Daemons: the interpreter does not wait for them at its end."""

    def __init__(
        self, work: Callable[[Item], Result], items: Sequence[Item], workers: int, computing: bool, ahead: int
    ) -> None:
        self._work, self._items, self._computing = work, items, computing
        self._stop, self._changed = threading.Event(), threading.Condition()
        self._next = self._taken = 0
        self._ahead = ahead
        self._done: dict[int, tuple[Any, BaseException | None]] = {}
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def at_work(self) -> bool:
        """Whether a thread still works on an item."""
        return any(thread.is_alive() for thread in self._threads)

    def results(self) -> Iterator[Result]:
        """Each item's result in turn; raises the error of the first item that has one."""
        for number in range(len(self._items)):
            with self._changed:
                while number not in self._done:
                    self._changed.wait()
                result, error = self._done.pop(number)
                self._taken += 1
                self._changed.notify_all()
            if error is not None:
                raise error
            yield result

    def stop(self) -> None:
        """Begin no further item; the work on others ends where it calls `stop_if_asked`."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def join(self) -> None:
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join()

    def _serve(self) -> None:
        _here.stop = self._stop
        if self._computing:
            _one_core()
        with suppress(StopAsked):
            while True:
                with self._changed:
                    while self._next > self._taken + self._ahead and not self._stop.is_set():
                        self._changed.wait()
                    number = self._next
                    self._next += 1
                if number >= len(self._items):
                    return
                stop_if_asked()
                outcome: tuple[Any, BaseException | None]
                try:
                    outcome = self._work(self._items[number]), None
                except StopAsked:
                    raise
                except BaseException as error:  # panics of Rust, too: an item without an outcome is awaited for ever
                    outcome = None, error
                with self._changed:
                    self._done[number] = outcome
                    self._changed.notify_all()


def _leave_behind(crew: _Crew[Any, Any]) -> None:
    """At the interpreter's end: end the process at once if threads are still inside a library, which would crash when
    the interpreter goes away under them."""
    if crew.at_work:
        remove_unfinished()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(INTERRUPTED)


@contextmanager
def _torch_threads_restored() -> Iterator[None]:
    """Restore torch's number of threads at the end: the crew's threads change it for all threads that start later."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)


def _one_core() -> None:
    # Only where torch is already loaded: without an encoder that uses it, importing torch would only take time.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
