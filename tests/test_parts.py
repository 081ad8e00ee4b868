"""Continuous integration runs the slow tests by parts: together they are all of them, and no file is torn."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import part_of

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    for name in NAMES:
        lines = ("import pytest", "def test_fast(): pass", "@pytest.mark.slow", "def test_one(): pass",
                 "@pytest.mark.slow", "def test_two(): pass")  # fmt: skip
        (tmp_path / f"test_{name}.py").write_text("\n".join(lines))
    return tmp_path


def collected(suite: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow(minutes=0.1)
def test_parts_share_the_files_with_slow_tests(suite: Path) -> None:
    parts = [collected(suite, "-m", "slow", "--part", part) for part in ("1/2", "2/2")]
    whole = [f"test_{name}.py::test_{which}" for name in NAMES for which in ("one", "two")]
    assert sorted(parts[0] + parts[1]) == whole
    files = [{line.partition("::")[0] for line in part} for part in parts]
    assert not files[0] & files[1] and all(len(each) == 2 for each in files)


def test_a_part_leaves_fast_tests_alone(suite: Path) -> None:
    assert sum("test_fast" in line for line in collected(suite, "--part", "1/4")) == len(NAMES)


@pytest.mark.parametrize("part", ["0/3", "4/3", "a/b", "1/0", "1", "-1/3", ""])
def test_what_is_no_part_is_refused(part: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no part such as 1/3"):
        part_of(part)
