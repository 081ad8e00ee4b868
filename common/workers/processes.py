"""Work spread over processes that may die: an item whose process dies is identified, and the others go on."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE_SECONDS = 0.5
"""How long a process that is asked to end may clean up; then it is killed."""


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item and its result; `died` means that its process died (killed for memory, a crashed decoder)."""

    item: Item
    result: Result | None
    died: bool = False


def map_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Done[Item, Result]]:
    """Run `work` on every item in spawned processes, in the order in which they finish.

    Spawned, because a forked MediaPipe or CUDA hangs. The processes end with this one, however it ends. An item whose
    process dies is tried again alone, after all others: its neighbours may have used up the memory. An error of
    `initializer` is raised here, because no item can be worked on without it. An error of the work is raised after the
    items in work are finished; an interruption ends the processes at once.
    """
    order = _Order(work, initializer, initargs)
    again: list[Item] = []
    for done in _side_by_side(order, items, workers):
        if done.died:
            again.append(done.item)
        else:
            yield done
    yield from _side_by_side(order, again, 1)


def _side_by_side(order: _Order[Item, Result], items: Sequence[Item], workers: int) -> Iterator[Done[Item, Result]]:
    # Each process has a pipe of its own. The processes of ProcessPoolExecutor share a queue, which a killed process
    # leaves in an unknown state: the pool then loses all its work, and waits for ever where a process ignores SIGTERM.
    waiting = deque(items)
    busy: dict[connection.Connection, _Worker[Item, Result]] = {}

    def begin(worker: _Worker[Item, Result]) -> None:
        busy[worker.connection] = worker
        worker.give(waiting.popleft())

    try:
        for _ in range(min(workers, len(items))):
            begin(_Worker(order))
        while busy:
            for ready in connection.wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                done = worker.answer()
                if waiting and not done.died:
                    begin(worker)
                else:
                    del busy[worker.connection]
                    worker.close()
                    if waiting:
                        begin(_Worker(order))
                yield done
    except Exception:
        for worker in busy.values():
            worker.close()
        busy.clear()
        raise
    finally:  # what is left was interrupted, or nobody asks for it any more
        end_processes([worker.process for worker in busy.values()])


class _Worker(Generic[Item, Result]):
    """A worker process, as seen by its parent."""

    def __init__(self, order: _Order[Item, Result]) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, order), daemon=True)
        start_shielded(self.process)
        theirs.close()  # held by the process alone, so that its end is the end of the pipe

    def give(self, item: Item) -> None:
        """Send the process an item; whether the process was already dead shows in `answer`."""
        self.item = item
        with suppress(OSError):
            self.connection.send(item)

    def answer(self) -> Done[Item, Result]:
        """Wait for the item's result; an error of the work is raised."""
        try:
            reply: _Reply[Result] = self.connection.recv()
        except (EOFError, OSError):
            self.process.kill()  # a pipe may also end before its process
            return Done(self.item, None, died=True)
        if reply.error is not None:
            reply.error.add_note(f"in a worker process:\n{reply.trace}")
            raise reply.error
        return Done(self.item, reply.result)

    def close(self) -> None:
        """Wait until the process has finished its item; closing its pipe tells it that nothing follows."""
        self.connection.close()
        self.process.join()


@dataclass(frozen=True)
class _Order(Generic[Item, Result]):
    """What a process does with every item, and once before the first."""

    work: Callable[[Item], Result]
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]


@dataclass(frozen=True)
class _Reply(Generic[Result]):
    """The work's result for an item, or its error with the traceback."""

    result: Result | None
    error: Exception | None = None
    trace: str = ""


def _serve(pipe: connection.Connection, order: _Order[Item, Result]) -> None:
    """Work on one item after the other until the pipe is closed."""
    end_with_parent()
    end_when_asked()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; this project raises errors or writes its own messages
    with suppress(EOFError, OSError, KeyboardInterrupt):
        failed = _attempt(_initialize, order)
        while True:
            item = pipe.recv()
            pipe.send(failed if failed.error else _attempt(order.work, item))


def _initialize(order: _Order[Any, Any]) -> None:
    if order.initializer is not None:
        order.initializer(*order.initargs)


def _attempt(work: Callable[[Item], Result], item: Item) -> _Reply[Result]:
    try:
        return _Reply(work(item))
    except Exception as error:
        return _Reply(None, portable(error), traceback.format_exc())


def portable(error: Exception) -> Exception:
    """The error in a form that another process can unpickle: itself, or else a RuntimeError with its text.

    Some errors can be pickled but not rebuilt from their arguments; a deep copy finds that out as unpickling would.
    """
    try:
        pickle.dumps(error)
        return copy.deepcopy(error)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def start_shielded(process: BaseProcess) -> None:
    """Start a process that Ctrl-C does not reach: a terminal sends it to children too, and one that is still loading
    its libraries would print a traceback. The parent decides when its children end."""
    with shielded():
        process.start()


@contextmanager
def shielded() -> Iterator[None]:
    """Block Ctrl-C inside the body; processes that start in it never get the signal."""
    resource_tracker.ensure_running()  # where it starts by itself, it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_processes(processes: Iterable[BaseProcess]) -> None:
    """Ask the processes to end, all at once, and kill those that have not ended after `GRACE_SECONDS`."""
    asked = [process for process in processes if process.is_alive()]
    for process in asked:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in asked:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def end_when_asked() -> None:
    """Let SIGTERM end this worker process as an error would, so that temporary files are removed on the way."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def end_with_parent() -> None:
    """Make this worker process end when its parent ends, however that happens."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker is somebody's child"
    connection.wait([parent.sentinel])
    os._exit(1)
