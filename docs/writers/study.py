"""Run the study on rendered people and write docs/results/study.md.

    .venv/bin/python -m docs.writers.study            (or: make study)
    .venv/bin/python -m docs.writers.study --only methods shift --seeds 0 --workers 2
    .venv/bin/python -m docs.writers.study --page     only the page, from the points made so far

It goes on where it was stopped: every point (one method in one world with one seed) leaves a file of JSON lines in
`data/study/cells`, and a point with a file is not made again. `evaluation/experiments/study/design.py` lists the
experiments.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then

from common.files import write_text
from common.workers import available_cores
from evaluation.experiments.driver import Failure, make_points
from evaluation.experiments.study.design import EXPERIMENTS, MORE_SEEDS
from evaluation.experiments.study.figures import curves
from evaluation.experiments.study.page import page
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.setups import point_of
from evaluation.experiments.study.summary import Results
from evaluation.figures.charts import save


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [experiment.name for experiment in EXPERIMENTS]
    parser.add_argument("--home", type=Path, default=Path("data/study"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="experiments to run, in their order")
    parser.add_argument("--seeds", nargs="+", type=int, choices=MORE_SEEDS, default=MORE_SEEDS)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--device", default="cpu", help="where networks are trained, e.g. cuda; shared by all workers")
    parser.add_argument("--minutes", type=float, help="begin no further point after so long")
    parser.add_argument("--machine", default="", help="where the points were made, for the page")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page from what is there")
    arguments = parser.parse_args()
    settings = StudySettings()
    failed: list[Failure] = []
    if not arguments.page:
        points = [
            point_of(arguments.home, setup, settings, arguments.device)
            for experiment in EXPERIMENTS
            if experiment.name in arguments.only
            for setup in experiment.setups()
            if setup.seed in arguments.seeds
        ]
        failed = make_points(points, arguments.workers, arguments.minutes)
    results = Results(arguments.home, settings)
    picture = curves(results)
    write_text(arguments.out / "results" / "study.md", page(results, picture is not None, arguments.machine))
    if picture is not None:
        save(picture, arguments.out / "images" / "study.png")
    for line in failed:
        sys.stderr.write(f"failed: {line}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
