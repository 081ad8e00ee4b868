"""A federation's overhead over the training itself, and other systems' beside it; ratios within one run:

    python -m benchmarks.federation                # a run of the demo's sizes, random weights, in a temporary folder
    python -m benchmarks.federation --run FOLDER   # models and shards of an existing run; no reference procedure
    python -m benchmarks.federation --no-flower    # without the environment that Flower gets in the temporary folder

Rounds are FedAvg's, with all clients in each; workers are loaded before the clock starts. The variants take turns,
`--repeat` times, and the fastest turn counts: other work on a machine can only add time. Each worker computes on one
thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

# This file has the name of a module that it measures, and must not hide it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Set before the libraries are loaded, here and in the workers: one thread a process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil
import torch

from benchmarks.federation_run import bare_steps, make_clips, make_run, reference_client, timed
from benchmarks.machine import scaling
from common.folders import RunFolder
from training.execution import Engine, Job, LocalPool, PooledEngine, open_trainer
from training.federation.algorithm import Start, run_federation
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods import configure, named
from training.federation.server.aggregation import Aggregator
from training.federation.server.checkpoint import RoundRecord
from training.settings import TrainingSettings

PROJECT = Path(__file__).resolve().parents[1]
FLOWER_SECONDS = 240
"""Flower's engine is stopped if its rounds take longer."""


def round_seconds(
    engine: Engine, theta: np.ndarray, clients: Sequence[str], settings: TrainingSettings, folder: Path
) -> list[float]:
    """Wall seconds of each whole round: sampling, training, aggregation, checkpoint; validation costs nothing."""
    ends = [time.perf_counter()]

    def note_the_time(record: RoundRecord) -> None:
        ends.append(time.perf_counter())

    shutil.rmtree(folder, ignore_errors=True)
    run_federation(
        engine, "fedavg", Start(theta, "0"), clients, lambda theta: 0.0, settings, folder, 0, on_round=note_the_time
    )
    return [end - begin for begin, end in itertools.pairwise(ends)]


def overhead(run: RunFolder, clips: list[Path] | None, steps: int, repeat: int, scratch: Path) -> float:
    """Print a round beside plain loops and the reference procedure; returns the seconds of a round on two workers."""
    settings = configure("fedavg", TrainingSettings())
    settings = settings.model_copy(
        update={"federation": settings.federation.model_copy(update={"local_steps": steps, "rounds": 1})}
    )
    storage = ClientStorage(run, "fedavg")
    trainer, job = open_trainer(storage, settings, 0), Job(storage, settings, 0)
    theta = trainer.adapter.vector()
    clients = clients_of(run)

    def plain() -> None:
        for client in clients:
            bare_steps(trainer, client, steps)

    def work() -> None:
        for client in clients:
            trainer.train(client, Announcement(1, theta))

    with LocalPool(["cpu"]) as one, LocalPool(["cpu", "cpu"]) as two:
        variants: dict[str, Callable[[], float | list[float]]] = {
            "plain": lambda: timed(plain),
            "work": lambda: timed(work),
        }
        for name, pool in {"one": one, "two": two}.items():
            engine = PooledEngine(pool, job)
            engine.train(clients[:2], Announcement(1, theta))  # loads libraries, models and shards
            variants[name] = partial(round_seconds, engine, theta, clients, settings, scratch / name)
        trainer.train(clients[0], Announcement(1, theta))
        seconds: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeat):
            for name, measure in variants.items():
                seconds[name].append(sum_of(measure()))
    took = {name: min(times) for name, times in seconds.items()}
    slowest = max(max(times) / took[name] for name, times in seconds.items())
    print(f"{len(clients)} clients, {steps} steps of {settings.federation.batch_size} windows each, ", end="")
    print(f"{len(theta)} parameters in the adapter; the fastest of {repeat} turns, ", end="")
    print(f"the slowest took up to {slowest:.2f} times as long.\n\n| | seconds | |\n|---|---|---|")
    print(f"| the clients' local steps, plain loop | {took['plain']:.2f} | |")
    print(f"| the clients' whole work, scores too, plain loop | {took['work']:.2f} | ", end="")
    print(f"{took['work'] / took['plain']:.3f} × the steps |")
    print(
        f"| **round, one worker** | {took['one']:.2f} | {took['one'] / took['work']:.3f} × the clients' work, ", end=""
    )
    print(f"{took['one'] / took['plain']:.3f} × the steps |")
    print(
        f"| **round, two workers** | {took['two']:.2f} | {took['one'] / took['two']:.2f} × as fast as one |", flush=True
    )
    print(f"| two processes of arithmetic alone, on this machine | | {scaling():.2f} × the work of one |", flush=True)
    for whole in (False, True) if clips else ():
        assert clips is not None
        reference = partial(reference_client, trainer, clients[0], clips, steps, whole)
        slow = min(timed(reference) for _ in range(repeat)) * len(clients)
        print(f"| reference procedure, {'whole clips' if whole else 'only windows'} encoded, steps alone ", end="")
        print(f"| {slow:.2f} | {slow / (took['one'] - took['work'] + took['plain']):.1f} × a round less its scores |")
    return took["two"]


def sum_of(seconds: float | list[float]) -> float:
    return seconds if isinstance(seconds, float) else sum(seconds)


def clients_of(run: RunFolder) -> list[str]:
    return sorted(folder.parent.name for folder in run.root.glob("clients/*/shards"))


def flower(run: RunFolder, ours: float, steps: int, repeat: int, scratch: Path) -> None:
    """Print Flower's seconds a round on two actors, in an environment of its own that sees this one's libraries."""
    environment = scratch / "flower"
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        print("\nFlower was not run: there is no uv to make its environment with.")
        return
    variables = {
        **os.environ,
        "VIRTUAL_ENV": str(environment),
        "PYTHONPATH": str(PROJECT),
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    variables |= {"RAY_USAGE_STATS_ENABLED": "0", "FLWR_HOME": str(scratch / "flwr")}
    made = subprocess.run(
        [uv, "venv", "-q", "--python", sys.executable, str(environment)], capture_output=True, text=True
    )
    if made.returncode == 0:
        made = subprocess.run(
            [uv, "pip", "install", "-q", "flwr[simulation]"], env=variables, capture_output=True, text=True
        )
    if made.returncode:
        print(f"\nFlower was not run, it could not be installed: {made.stderr.strip().splitlines()[-1]}")
        return
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "project.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    variables |= {"FLOWER_RUN": str(run.root), "FLOWER_WORKERS": "2"}
    variables |= {"FLOWER_ROUNDS": str(repeat), "FLOWER_STEPS": str(steps)}
    command = [str(environment / "bin" / "python"), str(PROJECT / "benchmarks" / "federation_flower.py")]
    pipe = subprocess.PIPE
    # In a session of its own, so that its actors end with it.
    started = subprocess.Popen(
        command, env=variables, cwd=PROJECT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        out, err = started.communicate(timeout=FLOWER_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        print(f"\nFlower's simulation did not finish {repeat} rounds in {FLOWER_SECONDS} s.")
        return
    found = [line for line in out.splitlines() if line.startswith('{"version"')]
    if not found:
        print(f"\nFlower's simulation failed:\n{err[-600:]}")
        return
    report = json.loads(found[-1])
    theirs = min(report["seconds"])
    print(f"| Flower {report['version']}, simulation engine, two actors | {theirs:.2f} | ", end="")
    print(f"**{theirs / ours:.2f}** × a round on two workers |")


class Instant:
    """An engine whose clients train in no time, so that only the server's time is measured."""

    def __init__(self, length: int) -> None:
        self.delta = np.random.default_rng(0).normal(0, 1e-3, length).astype(np.float32)

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        return {client: LocalUpdate(self.delta, 4, 0.5, {"total": 1.0}, 0.0) for client in clients}


def many_clients(registered: int, length: int, rounds: int, folder: Path) -> tuple[float, float]:
    """Median seconds of a round with ten of `registered` clients, and the MB by which the process has grown."""
    settings = configure("fedavg", TrainingSettings())
    federation = settings.federation.model_copy(update={"clients_per_round": 10, "rounds": rounds})
    settings = settings.model_copy(update={"federation": federation})
    clients = [f"client{number:05d}" for number in range(registered)]
    theta, engine = np.zeros(length, np.float32), Instant(length)
    before = psutil.Process().memory_info().rss
    seconds = round_seconds(engine, theta, clients, settings, folder)
    return statistics.median(seconds), (psutil.Process().memory_info().rss - before) / 1e6


def server_step(clients: int, length: int, repeat: int) -> float:
    """Median seconds to form the sum of plain vectors and to apply it."""
    settings = configure("fedavg", TrainingSettings())
    aggregator = Aggregator(settings.privacy, clients, 0, settings.privacy.clip_norm, 1.0)
    rule, theta = named("fedavg").server_rule(settings), np.zeros(length, np.float32)
    rng = np.random.default_rng(0)
    updates = [LocalUpdate(rng.standard_normal(length, np.float32), 4, 0.5, {}, 0.0) for _ in range(clients)]
    contributions = {
        str(number): aggregator.contribute(str(number), update, 1) for number, update in enumerate(updates)
    }
    del updates

    def step() -> None:
        rule.step(theta, aggregator.released(aggregator.combine(contributions, 1), 1.0), {})

    step()
    return statistics.median([timed(step) for _ in range(repeat)])


def server(scratch: Path, length: int) -> None:
    spawn = get_context("spawn")
    print(f"\nThe server alone, ten of the registered clients in a round, {length} parameters:\n")
    print("| registered | ms a round | MB grown |\n|---|---|---|")
    for registered in (100, 10_000):
        with spawn.Pool(1) as pool:  # a fresh process, so that its memory is that of these clients alone
            seconds, grown = pool.apply(many_clients, (registered, length, 20, scratch / f"many{registered}"))
        print(f"| {registered} | {1e3 * seconds:.1f} | {grown:.0f} |")
    print(f"\nServer step, 100 clients x 1 M parameters, without masks: {server_step(100, 1_000_000, 5):.3f} s.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the folder of a run with models and shards; by default one is made")
    parser.add_argument("--repeat", type=int, default=6)
    parser.add_argument("--clients", type=int, default=4, help="of the run that is made")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--no-flower", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        run = RunFolder(arguments.run.resolve()) if arguments.run else make_run(scratch / "run", arguments.clients)
        clips = None if arguments.run else make_clips(scratch / "clips")
        ours = overhead(run, clips, arguments.steps, arguments.repeat, scratch)
        if not arguments.no_flower:
            flower(run, ours, arguments.steps, arguments.repeat, scratch)
        server(scratch, 200_000)


if __name__ == "__main__":
    main()
