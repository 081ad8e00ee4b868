"""`make paper`: the stages of `dvc.yaml` side by side, as many at once as there are cores.

    .venv/bin/python -m pipelines.paper_run [--jobs 2]

DVC runs one stage after the other, and a stage keeps one core busy. What does not wait for each other is given here to
several `dvc repro --single-item`, which lock what they write, and their stages are forks of one process that has the
libraries loaded (`pipelines.warm`); DVC still decides what is due. `dvc repro` alone makes the same files, one after
the other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from dvc.repo import Repo

from pipelines import warm

DVC = str(Path(sys.executable).with_name("dvc"))
ALONE = ("corpus", "people", "backbone")
"""Stages that keep all cores busy by themselves."""


def generations(root: Path) -> list[list[str]]:
    """Names of all stages in the root's `dvc.yaml`: each list needs only those before it."""
    with Repo(str(root)) as repo:
        graph = repo.index.graph  # from a stage to those that it needs
        needs = {stage.addressing: {each.addressing for each in graph.successors(stage)} for stage in graph}
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    found = []
    while sorter.is_active():
        ready = sorter.get_ready()
        sorter.done(*ready)
        found.append(sorted(name for name in ready if ":" not in name))  # without those of benchmarks/dvc.yaml
    return found


def run_side_by_side(names: Sequence[str], jobs: int, root: Path, environment: Mapping[str, str]) -> list[int]:
    """Run what is due of stages that do not need each other; the exit codes."""
    shares = [names[first::jobs] for first in range(min(jobs, len(names)))]
    command = [DVC, "--wait-for-lock", "repro", "--single-item"]
    started = [subprocess.Popen([*command, *share], cwd=root, env=os.environ | environment) for share in shares]
    try:
        return [process.wait() for process in started]
    except KeyboardInterrupt:
        for process in started:
            process.wait()  # the terminal has told them, too
        raise


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="stages at once; 1.4 GB of memory each")
    asked = parser.parse_args(arguments)
    root = Path.cwd()
    with warm.opened() as to_fork:
        for names in generations(root):
            # Threads of several stages that wait for each other on the same cores would take most of their time: what
            # has all cores is a process of its own, all else a fork, which has one.
            jobs = 1 if names[0].startswith(ALONE) else asked.jobs
            if any(run_side_by_side(names, jobs, root, to_fork if jobs > 1 else {})):
                sys.stderr.write(
                    "error: a stage failed, see above; what is done stays\nremedy: mend it, run the same again\n"
                )
                return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
