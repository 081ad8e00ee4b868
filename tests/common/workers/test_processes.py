from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from common.errors import MissingWeightError
from common.weights import registry as weights
from common.workers import map_processes, portable


def test_results_come_with_their_items() -> None:
    done = {each.item: each.result for each in map_processes(abs, [-3, 2, -1], workers=2)}
    assert done == {-3: 3, 2: 2, -1: 1}


def test_the_item_that_kills_its_process_is_named_and_the_rest_is_done() -> None:
    """SIGCONT does nothing to a running process; SIGKILL cannot be caught."""
    items = [signal.SIGCONT, signal.SIGKILL, signal.SIGCONT]
    done = list(map_processes(signal.raise_signal, items, workers=1))
    assert sorted((int(each.item), each.died) for each in done) == [(9, True), (18, False), (18, False)]


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes home as it is; nothing is taken for an item that killed its process."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingWeightError, match=r"face_landmarker\.task") as caught:
        list(map_processes(abs, [-3, 2, -1], workers=2, initializer=weights.find, initargs=("face_landmarker",)))
    assert weights.ENVIRONMENT_VARIABLE in caught.value.remedy


def work_beside_a_death(folder: Path) -> str:
    """Where `folder` is empty, see the neighbour die; otherwise be that neighbour, once."""
    neighbour = folder / "neighbour"
    try:
        (folder / "here").mkdir()
    except FileExistsError:
        if neighbour.exists():
            return "again"
        neighbour.mkdir()
        signal.raise_signal(signal.SIGKILL)
    while not neighbour.exists():
        time.sleep(0.01)
    time.sleep(1)
    return "lived"


def deaf_to_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def test_a_death_costs_the_others_nothing_even_where_they_cannot_be_asked_to_end(tmp_path: Path) -> None:
    """An executor of the standard library gives up its pool at a death, and waits for ever for who ignores SIGTERM."""
    script = Path(__file__)
    code = (
        f"import sys; sys.path.insert(0, {str(script.parent)!r}); import test_processes as t; t.two({str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.returncode) == (["lived", "again"], 0), done.stderr


def two(folder: str) -> None:
    for done in map_processes(work_beside_a_death, [Path(folder)] * 2, 2, deaf_to_sigterm):
        sys.stdout.write(f"{done.result}\n")


class UnportableError(Exception):
    """Its pickle cannot be read: it is made of two arguments, and remembers one."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)


def test_an_error_of_the_work_is_raised_with_the_place_it_came_from() -> None:
    with pytest.raises(json.JSONDecodeError, match="Expecting value") as caught:
        list(map_processes(json.loads, ["no JSON"], workers=1))
    assert "raw_decode" in "".join(caught.value.__notes__)
    assert repr(portable(UnportableError("broken", 1))) == "RuntimeError('UnportableError: broken')"


def test_who_stops_asking_leaves_no_process_behind() -> None:
    results = map_processes(time.sleep, [0.01] * 50, workers=2)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    assert isinstance(results, Generator)
    results.close()
    assert multiprocessing.active_children() == []
