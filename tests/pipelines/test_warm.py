"""Stages as forks: their output and code reach those who ask, and whatever becomes of a fork, the next one works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import warm

STAGE = """
import json, os, signal, sys, threading
import colorsys  # stands for what is slow to import

def main(arguments):
    what, *rest = arguments
    if what == "tell":
        print(json.dumps([os.getcwd(), rest, os.getppid(), sys.stdin.read()]))
        sys.stderr.write("aside\\n")
        return 7
    if what == "fail":
        raise RuntimeError("on purpose")
    if what == "leave":
        raise SystemExit(3)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "child":
        import subprocess
        return subprocess.run(["false"]).returncode + 10
    return 0
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "a_stage.py").write_text(STAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        with warm.opened("a_stage", ["colorsys"]) as needed:
            yield needed


def asked(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.stage", *arguments]
    environment = os.environ | environment | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_output_folder_arguments_and_code_are_those_of_who_asked(environment: dict[str, str], tmp_path: Path) -> None:
    parents = set()
    for words in (["a b", ""], ["é"]):
        done = asked(environment, tmp_path, "tell", *words)
        assert done.returncode == 7 and done.stderr == "aside\n"
        folder, told, parent, typed = json.loads(done.stdout)
        assert (folder, told, typed) == (str(tmp_path), words, "")
        parents.add(parent)
    assert len(parents) == 1  # both are forks of one process


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [("fail", 1, "RuntimeError: on purpose"), ("leave", 3, ""), ("die", 1, "'die' was killed"), ("child", 11, "")],
)
def test_a_fork_that_fails_is_told_and_the_next_works(
    environment: dict[str, str], tmp_path: Path, what: str, code: int, said: str
) -> None:
    done = asked(environment, tmp_path, what)
    assert done.returncode == code and said in done.stderr
    assert asked(environment, tmp_path, "nothing").returncode == 0


def test_the_process_ends_with_the_one_that_opened_it_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "a_stage.py").write_text(STAGE)
    opening = """
import os, subprocess, sys
from pipelines import warm
with warm.opened("a_stage", []) as environment:
    code = subprocess.run([sys.executable, "-m", "pipelines.stage", "leave"], env=os.environ | environment).returncode
    print(code, environment[warm.SOCKET], flush=True)
    os.kill(os.getpid(), 9)
"""
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command, environment = [sys.executable, "-c", opening], os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    code, socket = done.stdout.split()  # their end: the process held this output, too
    assert (done.returncode, code) == (-9, "3")
    refused = asked({warm.SOCKET: socket}, tmp_path, "nothing")
    assert refused.returncode == 1 and "was killed" in refused.stderr
