"""Work shared out among processes that may die: a clip that kills its process is found and left out."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item and what became of it; `died` means that its process did (killed for memory, a crashed decoder)."""

    item: Item
    result: Result | None
    died: bool = False


def map_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Done[Item, Result]]:
    """Run `work` on every item in spawned processes, in the order in which they finish.

    Spawned, because a forked MediaPipe or CUDA hangs; they end with this process, however it ends. An item whose
    process dies is tried again after all others, alone: it may have died of its neighbours' memory. An error of
    `initializer` is raised here: without it no item could be worked on.
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
    # Each process has a pipe of its own. Those of ProcessPoolExecutor share a queue, which a killed one leaves in an
    # unknown state: the pool is lost with all its work, and waits for ever for a process that ignores SIGTERM.
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
    finally:
        for worker in busy.values():
            worker.close()


class _Worker(Generic[Item, Result]):
    """One process, seen from the one who gives it work."""

    def __init__(self, order: _Order[Item, Result]) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, order), daemon=True)
        self._process.start()
        theirs.close()  # held by the process alone, so that its end is the end of the pipe

    def give(self, item: Item) -> None:
        """Let the process begin with an item; whether it was dead already shows when it is asked for the answer."""
        self.item = item
        with suppress(OSError):
            self.connection.send(item)

    def answer(self) -> Done[Item, Result]:
        """Wait for what became of the item; an error of the work is raised."""
        try:
            reply: _Reply[Result] = self.connection.recv()
        except (EOFError, OSError):
            self._process.kill()  # a pipe may also end before its process
            return Done(self.item, None, died=True)
        if reply.error is not None:
            reply.error.add_note(f"in a worker process:\n{reply.trace}")
            raise reply.error
        return Done(self.item, reply.result)

    def close(self) -> None:
        """Let the process finish what it is at: closing its pipe tells it that nothing follows."""
        self.connection.close()
        self._process.join()


@dataclass(frozen=True)
class _Order(Generic[Item, Result]):
    """What a process does with every item, and once before the first."""

    work: Callable[[Item], Result]
    initializer: Callable[..., None] | None
    initargs: tuple[Any, ...]


@dataclass(frozen=True)
class _Reply(Generic[Result]):
    """What became of an item: the work's result, or its error with the place it came from."""

    result: Result | None
    error: Exception | None = None
    trace: str = ""


def _serve(pipe: connection.Connection, order: _Order[Item, Result]) -> None:
    """Until the pipe is closed: one item after the other."""
    end_with_parent()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; this project raises errors, or says itself what is to be said
    # Ctrl-C reaches this process as well; what it was at is left like any work that was cut off.
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
    """The error as another process can read it; one that cannot travel is told as text.

    Some can be pickled and not be made again from their arguments, which a copy finds out as unpickling would.
    """
    try:
        pickle.dumps(error)
        return copy.deepcopy(error)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def map_threads(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results of `work` on every item, in the order of the items, by `workers` threads of one core each.

    For work that torch, FFmpeg and numpy do outside the interpreter's lock: threads share one network, where every
    process would load libraries and weights of its own. The first error ends it; what has not begun is given up.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(work, items)
        return
    with _one_core_each(), ThreadPoolExecutor(workers, initializer=_one_core) as pool:
        try:
            yield from pool.map(work, items)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_core_each() -> Iterator[None]:
    """Torch's number of threads is put back at the end: a pool's threads change it for all that start later."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)


def _one_core() -> None:
    # Only where torch is loaded already: without an encoder that uses it, nobody should wait for its import.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def end_with_parent() -> None:
    """From here on this worker process ends when its parent does, however that ends."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker is somebody's child"
    connection.wait([parent.sentinel])
    os._exit(1)
