"""Runs independent items of work in processes, as many at once as there are cores."""

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
    """The number of an item and its result; `died` where the item's process ended twice before the work was done."""

    number: int
    result: object
    died: bool = False


def run_parallel(work: Callable[[Item], Result], items: Sequence[Item], cores: int) -> list[Result]:
    """The results of `work` on every item, in the items' order, on one thread each.

    The first error is raised after the items that are being worked on have finished.
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

    Each process has one thread: threads of several processes would spend most of their time waiting for each other, and
    with one thread losses are equal to the last digit on any number of cores. With one core the work is done in this
    process, whose threads stay as they are if `one_thread` is False.
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
    """The error for an item whose process was ended by the system, and again when the item was tried alone."""
    return PrivFedTalkError(
        f"the process of {name} died, twice",
        "most often the machine's memory was full: end what else runs, and give the same command again",
    )


def _numbered(work: Callable[[Item], Result], item: tuple[int, Item]) -> tuple[int, Result]:
    number, what = item
    return number, work(what)


def _limit_threads() -> None:
    import cv2  # takes seconds, so in each process in parallel
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
