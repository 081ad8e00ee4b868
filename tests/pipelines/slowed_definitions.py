"""The project's definitions with one step that never ends (see `slowed_command`), and a job of two processes.

The job `both` ends only if its two steps run at once: each waits until the other has begun.
"""

# No postponed annotations here: Dagster looks at types itself.
import os
import runpy
import time
from pathlib import Path

import dagster as dg

from assets.stage.run import Run
from pipelines import definitions
from pipelines.resources import default_run

PATIENCE_SECONDS = 120

if os.environ.get("SLOWED"):
    runpy.run_path(str(Path(__file__).with_name("slowed_command.py")))


def meet(run: Run, here: str, other: str) -> None:
    (run.folder.root / here).touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (run.folder.root / other).exists():
        assert time.monotonic() < deadline, f"{other} did not run at the same time"
        time.sleep(0.05)


@dg.op
def one(run: dg.ResourceParam[Run]) -> None:
    meet(run, "one", "other")


@dg.op
def other(run: dg.ResourceParam[Run]) -> None:
    meet(run, "other", "one")


@dg.job(executor_def=dg.multiprocess_executor, resource_defs={"run": default_run()})
def both() -> None:
    one()
    other()


defs = dg.Definitions.merge(definitions.defs, dg.Definitions(jobs=[both]))
