"""Work shared out among processes that may die: a clip that kills its process is found and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
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

    Spawned, because a forked MediaPipe or CUDA hangs. When a process dies, the pool with all its pending work is
    gone; the items that are left then go one by one, so that the deadly one is known by name and the others live.
    """
    left = dict(enumerate(items))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer, initargs)
    try:
        futures = {pool.submit(work, item): place for place, item in left.items()}
        for future in as_completed(futures):
            result = future.result()
            yield Done(left.pop(futures[future]), result)
        return
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    yield from _one_by_one(work, list(left.values()), initializer, initargs)


def _one_by_one(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    initializer: Callable[..., None] | None,
    initargs: tuple[Any, ...],
) -> Iterator[Done[Item, Result]]:
    pool = ProcessPoolExecutor(1, get_context("spawn"), initializer, initargs)
    try:
        for item in items:
            try:
                yield Done(item, pool.submit(work, item).result())
            except BrokenProcessPool:
                pool.shutdown()
                pool = ProcessPoolExecutor(1, get_context("spawn"), initializer, initargs)
                yield Done(item, None, died=True)
    finally:
        pool.shutdown(cancel_futures=True)
