"""A study from end to end: worlds are made when a cell first needs them, cells are run, each leaves one file.

Whatever has its file is kept, so a study that was killed, or whose list of experiments grew, goes on with what is
missing. Cells run in the order of their list: what matters most stands first.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import write_text
from common.folders import RunFolder
from evaluation.experiments.study.cells import Cell
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.worlds import World, is_ready, make_public, make_world, public_folder, world_folder
from preparation.clients.roles import load_clients, of_role

if TYPE_CHECKING:
    from evaluation.experiments.study.measuring import Panel

Key = tuple[int, World | None]
"""A seed's public corpus (None) or one of its worlds."""


def results_path(home: Path, cell: Cell, settings: StudySettings) -> Path:
    return home / "cells" / f"{cell.identifier(settings)}.jsonl"


def run_study(
    home: Path,
    cells: Sequence[Cell],
    settings: StudySettings,
    workers: int = 1,
    minutes: float | None = None,
    device: str = "cpu",
) -> list[str]:
    """Run the cells that have no results yet; returns what failed, one line each. One that fails stops no other.

    `workers` processes of one thread take a cell each, 1 is this process itself; with `minutes` no further one is
    begun after so long. Networks are trained and used on `device`, which all workers share.
    """
    started = time.monotonic()
    todo = [cell for cell in dict.fromkeys(cells) if not results_path(home, cell, settings).exists()]
    sys.stderr.write(f"study: {len(set(cells)) - len(todo)} cells kept, {len(todo)} to run\n")
    made = {key for cell in todo for key in _needs(cell) if is_ready(_folder(home, key))}
    failed: dict[Key | Cell, str] = {}
    running: dict[Future[float], Key | Cell] = {}
    with _pool(workers) as pool:
        while True:
            late = minutes is not None and time.monotonic() - started > 60 * minutes
            while not late and len(running) < workers:
                task = next(_possible(todo, made, failed, set(running.values())), None)
                if task is None:
                    break
                running[pool.submit(_run, home, task, settings, device)] = task
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                error = future.exception()
                if error is not None:
                    failed[task] = f"{_name(task)}: {type(error).__name__}: {error}"
                    sys.stderr.write("".join(traceback.format_exception(error)))
                elif isinstance(task, Cell):
                    todo.remove(task)
                else:
                    made.add(task)
                if error is None:
                    left = f"{len(todo)} cells left"
                    sys.stderr.write(f"{_name(task)}: {future.result():.1f} CPU-s, {left}\n")
    return list(failed.values())


def run_cell(home: Path, cell: Cell, settings: StudySettings, device: str = "cpu") -> None:
    """Train and measure one cell, and write its rows; its world is there."""
    from evaluation.experiments.study.federations import train

    world, identifier = world_folder(home, cell.seed, cell.world), cell.identifier(settings)
    panel = _panel(home, cell.seed, cell.world.rendered, settings)
    training = cell.arm.training(settings)
    everybody = of_role(load_clients(panel.world.clients_table), "client")
    without = {client for number, client in enumerate(everybody) if number in cell.arm.without}
    taking_part = [client for client in panel.clients if client not in without]
    scratch = home / "scratch" / identifier
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    scratch.mkdir(parents=True)
    trained = train(
        world, scratch, cell.arm, taking_part[: cell.arm.clients], training, cell.seed, settings.personal_steps, device
    )
    rows = list(panel.measure(cell, trained, training))
    head = {"cell": identifier, "seed": cell.seed, "world": cell.world.name, "method": cell.arm.method or "backbone"}
    head["arm"] = cell.arm.model_dump(exclude_defaults=True, exclude={"method"})
    write_text(results_path(home, cell, settings), "".join(json.dumps(head | row) + "\n" for row in rows))
    shutil.rmtree(scratch)


def _possible(
    todo: Sequence[Cell], made: set[Key], failed: dict[Key | Cell, str], busy: set[Key | Cell]
) -> Iterator[Key | Cell]:
    """What could be begun now, the most wanted first: a cell whose world is there, or what a cell waits for."""
    for cell in todo:
        if cell in busy or cell in failed or any(key in failed for key in _needs(cell)):
            continue
        missing = next((key for key in _needs(cell) if key not in made), None)
        if missing is None:
            yield cell
        elif missing not in busy:
            yield missing


def _needs(cell: Cell) -> list[Key]:
    """In the order in which they are made."""
    return list(dict.fromkeys([(cell.seed, None), (cell.seed, cell.world.rendered), (cell.seed, cell.world)]))


def _folder(home: Path, key: Key) -> RunFolder:
    seed, world = key
    return public_folder(home, seed) if world is None else world_folder(home, seed, world)


def _name(task: Key | Cell) -> str:
    if isinstance(task, Cell):
        return f"seed {task.seed} {task.world.name} {task.arm.model_dump(exclude_defaults=True) or 'backbone'}"
    seed, world = task
    return f"seed {seed} {'public corpus and networks' if world is None else world.name}"


def _run(home: Path, task: Key | Cell, settings: StudySettings, device: str) -> float:
    started = time.process_time()
    if isinstance(task, Cell):
        run_cell(home, task, settings, device)
    elif task[1] is None:
        make_public(home, task[0], settings, device)
    else:
        make_world(home, task[0], task[1], settings, device)
    return time.process_time() - started


_panels: dict[Path, Panel] = {}


def _panel(home: Path, seed: int, world: World, settings: StudySettings) -> Panel:
    """A worker keeps the clips it measures on; a handful of small worlds is all there is."""
    from evaluation.experiments.study.measuring import Panel

    folder = world_folder(home, seed, world)
    if folder.root not in _panels:
        _panels[folder.root] = Panel(folder, settings, seed)
    return _panels[folder.root]


class _Here(Executor):
    """One worker without a process: what is submitted is done at once."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        future: Future[object] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _pool(workers: int) -> Executor:
    if workers <= 1:
        return _Here()
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    import os

    import cv2
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
