"""Makes the points that have no file yet: a world when a point first needs it, then the federation and its figures.

Points are started in the order of their list, the most important first, several in parallel processes. A point that has
its file is kept, so an experiment that was killed, or whose list grew, goes on with the missing points.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.errors import PrivFedTalkError
from common.locks import one_at_a_time
from common.workers import portable
from evaluation.experiments.parallel import as_finished, died_twice
from evaluation.experiments.points import Point, World, write_rows


@dataclass(frozen=True)
class Failure:
    """A point that could not be made, and why."""

    point: Point
    error: Exception

    def __str__(self) -> str:
        return f"{self.point}: {type(self.error).__name__}: {self.error}"


@dataclass(frozen=True)
class Outcome:
    """The result of an attempt at a point: its CPU seconds, its error with the trace, or `late` where it was not
    started because the time was over."""

    seconds: float = 0.0
    error: Exception | None = None
    trace: str = ""
    late: bool = False


def make_points(
    points: Sequence[Point],
    workers: int = 1,
    minutes: float | None = None,
    one_thread: bool = True,
    on_point: Callable[[Point], None] = lambda point: None,
) -> list[Failure]:
    """Make the points that have no file yet; returns those that failed. A failure does not stop the other points.

    `workers` processes of one thread make one point each; 1 is this process itself (see `as_finished` for
    `one_thread`). With `minutes`, no point is started after so long. `on_point` is called with each point that has its
    file: first with all that are kept, then with each that is made.
    """
    unique = list({point.path: point for point in points}.values())
    kept = [point for point in unique if point.path.exists()]
    todo = [point for point in unique if not point.path.exists()]
    sys.stderr.write(f"experiment: {len(kept)} points kept, {len(todo)} to make\n")
    for point in kept:
        on_point(point)
    deadline = time.time() + 60 * minutes if minutes is not None else math.inf
    failed, left = [], len(todo)
    for finished in as_finished(partial(_attempt, deadline), todo, workers, one_thread):
        point, outcome = todo[finished.number], finished.result
        if finished.died:
            outcome = Outcome(error=died_twice(str(point)))
        assert isinstance(outcome, Outcome), "an attempt returns an outcome"
        if outcome.late:
            continue
        left -= 1
        if outcome.error is not None:
            failed.append(Failure(point, outcome.error))
            sys.stderr.write(outcome.trace)
        else:
            sys.stderr.write(f"{point}: {outcome.seconds:.1f} CPU-s, {left} left\n")
            on_point(point)
    return failed


def make_point(point: Point) -> None:
    """Train a point's federation, measure it and write the point's file; the point's world must be ready."""
    from evaluation.experiments.federations import scratch_run, train  # takes seconds, so in each process in parallel

    with scratch_run(point.world.folder, point.scratch / point.name, point.federation) as run:
        rows = list(point.measurement(train(run, point.federation)))
    write_rows(point.path, {"point": point.name, **point.about}, rows)


def raise_first(failures: Sequence[Failure]) -> None:
    """Raise the error of the first failure, if there is one. Finished points are kept: the same call makes the rest."""
    for failure in failures:
        failure.error.add_note(f"while {failure.point} was made")
        raise failure.error


def _attempt(deadline: float, point: Point) -> Outcome:
    if time.time() > deadline:
        return Outcome(late=True)
    started = time.process_time()
    try:
        _prepare(point.world)
        make_point(point)
    except Exception as error:
        return Outcome(error=portable(error), trace=traceback.format_exc())
    return Outcome(seconds=time.process_time() - started)


_failed: dict[Path, str] = {}
"""Folder -> error of worlds that this process could not make: points that need them fail at once."""


def _prepare(world: World) -> None:
    """Make a world and those it is made from, unless they are ready; waits for another process that is making one."""
    if world.ready:
        return
    for needed in world.needs:
        _prepare(needed)
    root = world.folder.root
    if root in _failed:
        raise PrivFedTalkError(f"{world} could not be made: {_failed[root]}", "mend that, and give the same command")
    with one_at_a_time(root.parent / ".locks" / f"{root.name}.lock"):
        if world.ready:
            return
        try:
            world.make()
        except Exception as error:
            _failed[root] = f"{type(error).__name__}: {error}"
            raise
