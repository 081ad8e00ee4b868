"""What does not wait for each other, each in a process of its own, as many at once as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from common.errors import PrivFedTalkError
from common.workers import map_processes

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], cores: int) -> list[Result]:
    """`work` on every item; the results in the items' order.

    Each has one thread: threads of several processes that wait for each other on the same cores would take most of
    their time, and the last digits of losses are the same on any number of cores. What one core works on is worked on
    here. The first error is raised when the others have ended what they are at.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of the libraries that the processes load
    workers = min(cores, len(items))
    if workers == 1:
        _one_thread()
        return [work(item) for item in items]
    found: dict[int, Result] = {}
    for done in map_processes(partial(_numbered, work), list(enumerate(items)), workers, _one_thread):
        if done.result is None:
            raise PrivFedTalkError(
                f"the process of {done.item[1]} died, twice",
                "most often the machine's memory was full: end what else runs, and give the same command again",
            )
        number, result = done.result
        found[number] = result
    return [found[number] for number in range(len(items))]


def _numbered(work: Callable[[Item], Result], item: tuple[int, Item]) -> tuple[int, Result]:
    number, what = item
    return number, work(what)


def _one_thread() -> None:
    import torch  # seconds, which processes spend side by side

    torch.set_num_threads(1)
