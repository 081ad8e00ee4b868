"""Work shared out among processes that may die: a clip that kills its process is found and left out."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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

    Spawned, because a forked MediaPipe or CUDA hangs; they end with this process, however it ends. When one dies, the
    pool with all its pending work is gone; the items that are left then go one by one, so that the deadly one is known
    by name and the others live. An error of `initializer` is raised here: without it no item could be worked on.
    """
    left = dict(enumerate(items))
    pool = _pool(workers, initializer, initargs)
    try:
        futures = {pool.submit(_ask, work, item): place for place, item in left.items()}
        for future in as_completed(futures):
            result = future.result()
            yield Done(left.pop(futures[future]), result)
        return
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    yield from _one_by_one(work, list(left.values()), initializer, initargs)


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


def _one_by_one(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    initializer: Callable[..., None] | None,
    initargs: tuple[Any, ...],
) -> Iterator[Done[Item, Result]]:
    pool = _pool(1, initializer, initargs)
    try:
        for item in items:
            try:
                yield Done(item, pool.submit(_ask, work, item).result())
            except BrokenProcessPool:
                pool.shutdown()
                pool = _pool(1, initializer, initargs)
                yield Done(item, None, died=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: int, initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), _start, (initializer, initargs))


def _start(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    # Workers hold both ends of the queue they wait on, so nothing tells them that the one who fills it was killed.
    end_with_parent()
    if initializer is None:
        return
    try:
        initializer(*initargs)
    except Exception as error:
        # Let through, it would break the pool and look like a dead process; the first item brings it home instead.
        _Startup.error = error


class _Startup:
    """What kept this process from starting."""

    error: Exception | None = None


def _ask(work: Callable[[Item], Result], item: Item) -> Result:
    if _Startup.error is not None:
        raise _Startup.error
    return work(item)


def end_with_parent() -> None:
    """From here on this worker process ends when its parent does, however that ends."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker is somebody's child"
    connection.wait([parent.sentinel])
    os._exit(1)
