"""Ctrl-C in every stage: the command ends in a moment, says so, leaves nothing behind, and goes on when given again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipelines.configuration.tree import load, remember
from preparation.media.writing import encode
from tests.pipelines.slowed_command import FOREVER_SECONDS
from tests.pipelines.smallest import SMALLEST_STUDIO
from tests.preparation.conftest import noise
from tests.training.small_run import SIZE, make_run, voice, write_portrait

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("slowed_command.py")
SMALLER = [
    *SMALLEST_STUDIO,
    "training.vae.steps=3",
    "training.pretraining.steps=2",
    "training.federation.rounds=1",
    "training.federation.local_steps=1",
    "training.methods=[fedavg]",
    "workers=2",
]
PATIENCE_SECONDS = 12.0
"""Two seconds are promised; a machine that does much else at once may take longer, but not the step's minutes."""


@dataclass(frozen=True)
class Ended:
    """How a command ended after Ctrl-C."""

    code: int
    seconds: float
    out: str
    err: str


class Project:
    """A folder of runs, and a folder of Dagster's records."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "mine"
        own = {"PRIVFEDTALK_DAGSTER": str(folder / "dagster"), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        self.environment = {**os.environ, **own, "TORCHINDUCTOR_CACHE_DIR": str(folder)}

    def begin(self, step: str, *arguments: str) -> subprocess.Popen[str]:
        """The command in a session of its own, like one that a terminal started; returns once the step is reached."""
        mark = self.folder / "mark"
        mark.unlink(missing_ok=True)
        environment = {**self.environment, "SLOWED": step, "MARK": str(mark)} if step else self.environment
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments], cwd=self.folder, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 240
        while step and not mark.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"{step} was not reached:\n{process.communicate()[1][-3000:]}")
            time.sleep(0.02)
        return process

    def interrupted(self, step: str, *arguments: str, presses: int = 1) -> Ended:
        """Press Ctrl-C in the step: a terminal sends the signal to all processes of the command."""
        process = self.begin(step, *arguments)
        family = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.1)
        pressed = time.monotonic()
        for _ in range(presses):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
        out, err = process.communicate(timeout=60)
        seconds = time.monotonic() - pressed
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"left behind after {step}: {[child.cmdline() for child in alive]}"
        return Ended(process.returncode, seconds, out, err)

    def finish(self, *arguments: str) -> str:
        process = self.begin("", *arguments)
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
        return err

    @property
    def leavings(self) -> list[str]:
        return [str(path) for path in self.folder.rglob(".*") if path.suffix in (".partial", ".old")]


def assert_ended(ended: Ended) -> None:
    assert PATIENCE_SECONDS < FOREVER_SECONDS / 10
    assert ended.code == 130, ended.err
    assert ended.seconds < PATIENCE_SECONDS, ended.err
    assert ended.err.count("Interrupted. What is finished is kept; go on with: privfedtalk") == 1
    assert "Traceback" not in ended.err and "Error" not in ended.err, ended.err


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def demo(project: Project) -> list[str]:
    sets = [part for one in SMALLER for part in ("--set", one)]
    return ["demo", str(project.run), "--profile", "small", *sets]


def test_rendering_stops_and_goes_on(project: Project) -> None:
    """Two worker processes, inside a library."""
    command = [
        *("studio", "--out", str(project.run), "--speakers", "6", "--clips", "1", "--seconds", "0.8", "--workers", "2"),
        *("--set", "studio.size=96"),
    ]
    assert_ended(project.interrupted("studio", *command))
    assert project.leavings == []
    project.finish(*command)
    assert len(list(project.run.rglob("*.mp4"))) == 6


@pytest.mark.slow(minutes=0.3)
def test_a_second_press_ends_at_once_and_json_is_one_document(project: Project) -> None:
    ended = project.interrupted("studio", *demo(project), "--json", presses=2)
    assert_ended(ended)
    assert json.loads(ended.out)["error"] == "interrupted; what is finished is kept"


@pytest.mark.slow(minutes=0.4)
def test_generating_stops_and_leaves_no_half_video(project: Project) -> None:
    make_run(project.run)
    sets = [f"data={project.folder}", "run=mine", f"preparation.crops.size={SIZE}", "preparation.faces.tracker=truth"]
    remember(load("small", sets))
    face, speech, talk = (project.folder / name for name in ("face.png", "voice.mp4", "talk.mp4"))
    write_portrait(face)
    encode(noise(15), voice(0.6), speech)
    files = ["--reference", str(face), "--speech", str(speech), "--out", str(talk), "--steps", "1"]
    assert_ended(project.interrupted("generate", "generate", str(project.run), *files))
    assert not talk.exists() and project.leavings == []
    project.finish("generate", str(project.run), *files)
    assert talk.exists()


@pytest.mark.slow(minutes=6)
def test_every_stage_stops_and_goes_on(project: Project) -> None:
    """One run, interrupted in each stage after the other: what was finished before is kept each time."""
    command = demo(project)
    finished: list[str] = []
    stages = {
        "studio": "corpus", "manifest": "manifest", "crops": "crops", "vae": "vae", "shards": "shards",
        "backbone": "backbone", "rulers": "rulers", "federation": "federation/fedavg",
        "evaluation": "evaluation/backbone", "report": "report",
    }  # fmt: skip
    for step, stage in stages.items():
        ended = project.interrupted(step, *command)
        assert_ended(ended)
        assert project.leavings == [], step
        assert f"{stage}: started" in ended.err and f"{stage}: done" not in ended.err, ended.err
        assert all(f"{name}: unchanged, kept" in ended.err for name in finished), ended.err
        finished = [*finished, *(name for name in stages.values() if f"{name}: done" in ended.err)]
    err = project.finish(*command)
    assert all(f"{name}: unchanged, kept" in err for name in finished), err
    assert len(finished) >= len(stages) - 2

    for step, asked in {
        "membership": ["privacy", "membership", str(project.run), "--method", "fedavg"],
        "here": ["train", str(project.run), "--set", "training.execution.engine=here", "--fresh"],
    }.items():
        assert_ended(project.interrupted(step, *asked))
        assert project.leavings == [], step
