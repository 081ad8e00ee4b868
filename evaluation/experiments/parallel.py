"""Work that does not wait for each other, each item in a process of its own, as many at once as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from common.errors import PrivFedTalkError
from common.workers import map_processes

Item = TypeVar("Item")
Result = TypeVar("Result")


class Finished(NamedTuple):
    """The number of an item and the work's result on it; `died` where its process ended twice before the work did."""

    number: int
    result: object
    died: bool = False


def run_parallel(work: Callable[[Item], Result], items: Sequence[Item], cores: int) -> list[Result]:
    """The results of `work` on every item, in the items' order, on one thread each.

    The first error is raised when the others have ended what they are at.
    """
    found: dict[int, Result] = {}
    for finished in as_finished(work, items, cores):
        if finished.died:
            raise died_twice(str(items[finished.number]))
        found[finished.number] = finished.result  # type: ignore[assignment]
    return [found[number] for number in range(len(items))]


def as_finished(
    work: Callable[[Item], object], items: Sequence[Item], cores: int, one_thread: bool = True
) -> Iterator[Finished]:
    """The result of `work` on every item as soon as it is there.

    Each has one thread: threads of several processes that wait for each other on the same cores would take most of
    their time, and the last digits of losses are the same on any number of cores. What one core works on is worked on
    in this process, where `one_thread` may leave the threads as they are.
    """
    workers = min(cores, len(items))
    if workers <= 1:
        if one_thread:
            _limit_threads()
        for number, item in enumerate(items):
            yield Finished(number, work(item))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of the libraries that the processes load
    for done in map_processes(partial(_numbered, work), list(enumerate(items)), workers, _limit_threads):
        result = done.result[1] if done.result is not None else None
        yield Finished(done.item[0], result, died=done.result is None)


def died_twice(name: str) -> PrivFedTalkError:
    """The error of an item whose process was ended by the system, and again when it was tried alone."""
    return PrivFedTalkError(
        f"the process of {name} died, twice",
        "most often the machine's memory was full: end what else runs, and give the same command again",
    )


def _numbered(work: Callable[[Item], Result], item: tuple[int, Item]) -> tuple[int, Result]:
    number, what = item
    return number, work(what)


def _limit_threads() -> None:
    import cv2  # seconds, which processes spend side by side
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
