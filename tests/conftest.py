"""Real clips, metadata and weights for tests live beside the project; where they are absent, tests skip."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import absl.logging
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# One thread for everything numerical, set before torch is imported: small tensors gain nothing from two, and on a busy
# machine threads that wait for each other take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell ignores Ctrl-C for what it starts in the background, and children inherit that; tests send Ctrl-C to their
# own children.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A console that finds a width when it is made keeps it, whatever a test asks for later.
os.environ.pop("COLUMNS", None)
# Dagster's configuration of logging closes all handlers that there are. Absl's, which mediapipe brings, closes its
# stream with it unless that is the process's own; else it is pytest's capture of the test that imported absl first.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

# No test is timed: on a busy machine the first input alone may take seconds.
hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")

FIXTURES = Path(__file__).resolve().parents[1].parent / "shared" / "fixtures"


def part_of(text: str) -> tuple[int, int]:
    """K and N of `K/N`."""
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 1/3")
    return int(number), int(of)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", type=part_of, metavar="K/N", help="the K-th of N parts of the slow tests' files")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests of other parts, and let each process begin with its share of the slow ones.

    A file stays whole, in a part and in a process, because its tests share what its fixtures make.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            files.setdefault(item.path, []).append(item)
    number, of = config.getoption("part") or (1, 1)
    parts = _shared(list(files.values()), of)
    mine = parts.pop(number - 1)
    config.hook.pytest_deselected(items=[item for part in parts for file in part for item in file])
    fast = [item for item in items if not item.get_closest_marker("slow")]
    # xdist gives each process an equal cut of the order of tests. Fast ones are what is left to take over at the end.
    shares = _shared(mine, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    left, items[:] = len(fast) + sum(map(len, mine)), []
    for place, share in enumerate(shares):
        own = [item for file in share for item in file]
        cut = left // (len(shares) - place)
        taken = max(0, cut - len(own))
        items += [*own, *fast[:taken]]
        fast, left = fast[taken:], left - cut
    items += fast


def _shared(files: list[list[pytest.Item]], shares: int) -> list[list[list[pytest.Item]]]:
    """Files of slow tests dealt into shares of about as many minutes, the longest first in each."""
    dealt: list[list[list[pytest.Item]]] = [[] for _ in range(shares)]
    minutes = [0.0] * shares
    for file in sorted(files, key=lambda file: -sum(map(_minutes, file))):
        least = minutes.index(min(minutes))
        minutes[least] += sum(map(_minutes, file))
        dealt[least].append(file)
    return dealt


def _minutes(item: pytest.Item) -> float:
    marker = item.get_closest_marker("slow")
    return float(marker.kwargs.get("minutes", 0.5)) if marker else 0.0


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"needs {path.relative_to(FIXTURES.parents[1])} beside the project, which is not there")
    return path


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    return _existing(FIXTURES)


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    return _existing(FIXTURES / "weights")


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    return _existing(FIXTURES / "clips")


@pytest.fixture(scope="session", autouse=True)
def _signing_identity_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clips that tests generate are signed by an identity of their own, never by the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIVFEDTALK_SIGNING", str(tmp_path_factory.mktemp("signing")))
        yield
