"""SIGKILL at random moments, then the same command again: the adapter is that of a run that nobody killed."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from common.folders import RunFolder
from tests.training.federation.killed_federation import main
from tests.training.small_federation import TrainerFor, settings_with
from training.execution.here import HerePool
from training.federation.methods.base import State
from training.settings import TrainingSettings

ROUNDS_A_KILL = 4
"""More than a run is let do before it is killed: two rounds that are read, and two in which the moment lies."""


def begin(run: Path, method: str, *pool: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("killed_federation.py")
    command = [sys.executable, str(script), str(run), method, str(run / "settings.json"), *pool]
    project = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=project)


def what_is_left(run: Path, method: str) -> dict[str, State]:
    """All that a federation ends with: the adapter, the server's and each client's state."""
    files = [
        run / "federation" / method / "adapter" / "adapter_model.safetensors",
        *sorted((run / "federation" / method / "checkpoint").glob("*.safetensors")),
        *sorted(run.glob(f"clients/*/methods/{method}/state-*.safetensors")),
    ]
    return {str(path.relative_to(run)): load_file(path) for path in files}


def run_through(run: Path, method: str) -> float:
    """Seconds of a round, the first not counted: workers start in it."""
    child = begin(run, method)
    assert child.stdout is not None
    times = [time.monotonic() for _ in child.stdout]
    assert child.wait() == 0
    return (times[-1] - times[0]) / (len(times) - 1)


def run_and_kill(run: Path, method: str, round_seconds: float, rng: np.random.Generator) -> bool:
    """Kill the run somewhere in the first two rounds that are new to it, a worker of it first, every other time.

    False where it was done before that.
    """
    state = run / "federation" / method / "rounds.jsonl"
    done = len(state.read_text().splitlines()) if state.exists() else 0
    child = begin(run, method)
    assert child.stdout is not None
    for _ in itertools.islice(child.stdout, done + int(rng.integers(0, 3))):
        pass
    if child.poll() is not None:
        return False
    family = psutil.Process(child.pid).children(recursive=True)
    time.sleep(rng.uniform(0, round_seconds))
    if family and rng.random() < 0.5:
        family[-1].kill()
        time.sleep(rng.uniform(0, round_seconds))
    child.send_signal(signal.SIGKILL)
    killed = child.wait() == -signal.SIGKILL
    # One that is still loading its libraries looks for its parent only then; on a busy machine that takes a minute.
    _, alive = psutil.wait_procs(family, timeout=180)
    assert not alive, "workers outlive the one they work for"
    return killed


def two_runs(
    trainer_for: TrainerFor, tmp_path: Path, method: str, rounds: int, **federation: object
) -> tuple[Path, Path, TrainingSettings]:
    """A run to leave whole and the same one to kill, and the settings that both go through."""
    settings = settings_with(method, noise_multiplier=0.5, survivor_floor=0.6, adaptive_clipping=True)
    update = {"rounds": rounds, "clients_per_round": 2, "keep": "best", **federation}
    settings = settings.model_copy(update={"federation": settings.federation.model_copy(update=update)})
    run = trainer_for(settings, method).storage.run.root
    (run / "settings.json").write_text(settings.model_dump_json())
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for copy in (whole, cut):
        shutil.copytree(run, copy)
    return whole, cut, settings


def assert_killing_changes_nothing(trainer_for: TrainerFor, tmp_path: Path, method: str, kills: int) -> None:
    whole, cut, _ = two_runs(trainer_for, tmp_path, method, rounds=2 + ROUNDS_A_KILL * kills)
    round_seconds = run_through(whole, method)
    rng = np.random.default_rng([7, kills])
    struck = attempts = 0
    while struck < kills and attempts < 2 * kills:
        attempts += 1
        struck += run_and_kill(cut, method, round_seconds, rng)
    assert struck == kills, f"{struck} of {attempts} runs were killed, the others were done before"
    run_through(cut, method)
    assert_the_same(whole, cut, method)


def assert_the_same(whole: Path, cut: Path, method: str) -> None:
    expected, found = what_is_left(whole, method), what_is_left(cut, method)
    assert expected.keys() == found.keys()
    for path, vectors in expected.items():
        assert vectors.keys() == found[path].keys()
        for name, vector in vectors.items():
            np.testing.assert_array_equal(found[path][name], vector, err_msg=f"{path}: {name}")
    adapter = expected[f"federation/{method}/adapter/adapter_model.safetensors"]
    assert max(np.abs(vector).max() for name, vector in adapter.items() if "lora_B" in name) > 1e-4


@pytest.mark.slow(minutes=0.3)
def test_a_run_killed_within_a_round_goes_on_bit_for_bit(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """One death, of a federation without workers, whose libraries are loaded once: what every change is tested with."""
    whole, cut, settings = two_runs(trainer_for, tmp_path, "privfedtalk", rounds=8, local_steps=1, score_steps=1)
    with HerePool("cpu") as pool:
        began = time.monotonic()
        main(RunFolder(whole), "privfedtalk", settings, pool)
        round_seconds = (time.monotonic() - began) / 8
    child = begin(cut, "privfedtalk", "here")
    assert child.stdout is not None
    assert child.stdout.readline() == "1\n"
    time.sleep(0.5 * round_seconds)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was done before"
    done = len((cut / "federation" / "privfedtalk" / "rounds.jsonl").read_text().splitlines())
    assert 1 <= done < 8
    with HerePool("cpu") as pool:
        main(RunFolder(cut), "privfedtalk", settings, pool)
    assert_the_same(whole, cut, "privfedtalk")


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(trainer_for: TrainerFor, tmp_path: Path) -> None:
    assert_killing_changes_nothing(trainer_for, tmp_path, "privfedtalk", kills=2)


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize(("method", "kills"), [("privfedtalk", 10), ("scaffold", 4), ("fedadam", 3)])
def test_killed_again_and_again(trainer_for: TrainerFor, tmp_path: Path, method: str, kills: int) -> None:
    assert_killing_changes_nothing(trainer_for, tmp_path, method, kills)
