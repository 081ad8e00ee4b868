"""Work in processes side by side: results in order, one thread each, and what goes wrong is told."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from common.errors import PrivFedTalkError
from evaluation.experiments.parallel import run_parallel

WORK = """
import os, signal, time
from common.errors import PrivFedTalkError

def meet(places):
    mine, other = places
    mine.touch()
    for _ in range(600):  # the other process may still be loading libraries
        if other.exists():
            return True
        time.sleep(0.1)
    return False

def look(item):
    import torch
    return item, torch.get_num_threads(), os.getpid()

def die(item):
    if item == "doomed":
        os.kill(os.getpid(), signal.SIGKILL)
    return item

def refuse(item):
    if item == 1:
        raise PrivFedTalkError("number 1 is refused", "leave it out")
    return item
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that other processes find, too."""
    (tmp_path / "done_in_parallel.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "done_in_parallel", raising=False)
    return importlib.import_module("done_in_parallel")


@pytest.mark.slow(minutes=0.2)
def test_two_are_at_work_at_once(work: ModuleType, tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    assert run_parallel(work.meet, [(left, right), (right, left)], cores=2) == [True, True]


@pytest.mark.parametrize("cores", [1, 2])
def test_results_are_in_order_and_of_one_thread(work: ModuleType, cores: int) -> None:
    before = torch.get_num_threads()
    try:
        found = run_parallel(work.look, [2, 0, 1], cores)
    finally:
        torch.set_num_threads(before)
    assert [item for item, _, _ in found] == [2, 0, 1]
    assert {threads for _, threads, _ in found} == {1}
    assert (os.getpid() in {process for _, _, process in found}) == (cores == 1)


def test_one_that_dies_is_named(work: ModuleType) -> None:
    with pytest.raises(PrivFedTalkError, match="the process of doomed died") as caught:
        run_parallel(work.die, ["well", "doomed", "fine"], cores=2)
    assert "memory" in caught.value.remedy


@pytest.mark.slow(minutes=0.1)
def test_an_error_comes_with_its_remedy(work: ModuleType) -> None:
    with pytest.raises(PrivFedTalkError, match="number 1 is refused") as caught:
        run_parallel(work.refuse, [0, 1, 2], cores=2)
    assert caught.value.remedy == "leave it out"
