"""Threads in order, their errors, and that nobody waits for one that cannot be interrupted."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.workers import map_threads, stop_if_asked

PROJECT = Path(__file__).resolve().parents[3]


def test_results_come_in_the_order_of_the_items_and_several_threads_work() -> None:
    first_waits = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            first_waits.set()
        assert first_waits.wait(20), "one thread does everything"
        return item * item

    assert list(map_threads(work, range(20), 2)) == [item * item for item in range(20)]
    assert list(map_threads(work, [], 2)) == []


def test_threads_wait_for_a_slow_taker_and_a_slow_first_item_holds_up_only_what_is_too_far_ahead() -> None:
    begun: list[int] = []
    first = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            first.wait(20)
        return item

    results = map_threads(work, range(12), 2, ahead=3)
    threading.Timer(0.2, first.set).start()
    assert next(results) == 0
    time.sleep(0.2)
    assert max(begun) == 4  # item 1 is taken next
    assert list(results) == list(range(1, 12))


def test_the_first_error_ends_the_work_and_what_is_in_work_is_waited_for() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("broken")
        time.sleep(0.05)
        done.append(item)

    with pytest.raises(ValueError, match="broken"):
        list(map_threads(work, range(1000), 2))
    ended = len(done)
    assert ended < 900
    time.sleep(0.2)
    assert len(done) == ended


def test_an_error_that_is_no_exception_is_raised_and_not_waited_for() -> None:
    """PyO3 raises a panic of Rust as a BaseException."""

    class Panic(BaseException):
        pass

    def work(item: int) -> int:
        if item == 2:
            raise Panic
        return item

    results = map_threads(work, range(8), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(Panic):
        next(results)


def test_who_stops_asking_stops_the_threads_where_they_ask_themselves() -> None:
    steps: list[int] = []

    def work(item: int) -> int:
        for step in range(10_000 if item else 1):
            stop_if_asked()
            steps.append(step)
            time.sleep(0.01)
        return item

    results = map_threads(work, range(4), 2)
    assert next(results) == 0
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5 and len(steps) < 5000
    stop_if_asked()  # outside of such threads it does nothing


INSIDE = """
import hashlib, os, signal, sys, threading
from pathlib import Path
from common.files import replacing
from common.workers import map_threads

def work(item):
    with replacing(Path(sys.argv[1]) / f"{item}.txt") as partial:
        partial.write_text("half")
        begun.release()
        hashlib.pbkdf2_hmac("sha512", b"", b"", 500_000_000)

def interrupt():
    begun.acquire(); begun.acquire()
    os.kill(os.getpid(), signal.SIGINT)

begun = threading.Semaphore(0)
threading.Thread(target=interrupt, daemon=True).start()
try:
    list(map_threads(work, range(4), 2))
except KeyboardInterrupt:
    sys.stdout.write("interrupted\\n")
"""


def test_an_interruption_leaves_threads_behind_that_are_inside_a_library(tmp_path: Path) -> None:
    """Each call takes minutes; the process ends at once, as if it had been interrupted, and leaves no half file."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 130)
    assert time.monotonic() - began < 30 and list(tmp_path.iterdir()) == []
