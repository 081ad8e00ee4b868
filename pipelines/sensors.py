"""Sensors: what runs when files are new. They are off until an operator turns them on, which Dagster remembers.

A file counts as new when nothing near it has been written for a minute: half a copy is no clip, half a file no model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from assets.preparation.gathering import lines_of, listing_of
from assets.stage.partitions import REFERENCES, client_buckets
from assets.stage.run import Run
from assets.stage.stages import digest
from common.locks import busy
from pipelines import jobs
from pipelines.resources import default_configuration, default_run, open_run
from training.federation.methods import METHODS

SETTLED_SECONDS = 60.0
CLIPS_EVERY_SECONDS, MODELS_EVERY_SECONDS = 300, 60


@dg.sensor(job=jobs.prepare, minimum_interval_seconds=CLIPS_EVERY_SECONDS)
def new_clips(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Prepares what is new in the corpus folder of the default run; what is prepared already is kept."""
    run = open_run(default_configuration(), keep=True)
    if run.renders:
        return dg.SkipReason("the studio renders this run's corpus: there is no folder to watch")
    if at_work := _at_work(run):
        return dg.SkipReason(at_work)
    folders = _sources(run)
    if gone := [folder for folder in folders if not folder.is_dir()]:  # a disk that is not mounted is no empty corpus
        return dg.SkipReason(f"there is no folder {', '.join(map(str, gone))}")
    state = digest(line for folder in folders for line in lines_of(folder, run.folder.root))
    if state == context.cursor:
        return dg.SkipReason(f"nothing is new in {', '.join(map(str, folders))}")
    if (seconds := _seconds_since_last_write(folders, run.folder.root)) < SETTLED_SECONDS:
        return dg.SkipReason(f"a file was written {seconds:.0f} s ago: perhaps more is being copied")
    buckets = client_buckets.get_partition_keys()
    whole = {"dagster/asset_partition_range_start": buckets[0], "dagster/asset_partition_range_end": buckets[-1]}
    request = dg.RunRequest(run_key=f"clips-{state}", run_config=_run_config(), tags={**whole, **_tags(run)})
    return dg.SensorResult(run_requests=[request], cursor=state)


@dg.sensor(job=jobs.evaluate, minimum_interval_seconds=MODELS_EVERY_SECONDS)
def new_models(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Evaluates every method whose adapter is new, and the references where the backbone is."""
    run = open_run(default_configuration(), keep=True)
    if at_work := _at_work(run):
        return dg.SkipReason(at_work)
    known = _known(context.cursor)
    folders = {method: run.folder.adapter(method) for method in METHODS}
    folders |= dict.fromkeys(REFERENCES, run.folder.model("backbone"))
    found = {name: digest(lines) for name, folder in folders.items() if (lines := lines_of(folder))}
    finished = {name for name in found if _seconds_since_last_write([folders[name]]) >= SETTLED_SECONDS}
    changed = {name: state for name, state in found.items() if name in finished and known.get(name) != state}
    if not changed:
        return dg.SkipReason(f"no new model in {run.folder.root}")
    requests = [
        dg.RunRequest(run_key=f"{name}-{state}", partition_key=name, run_config=_run_config(), tags=_tags(run))
        for name, state in changed.items()
    ]
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(known | changed))


def _at_work(run: Run) -> str:
    """Why nothing is requested now: a command works on the run, and another would be refused. Empty if none does."""
    who = busy(run.folder.command_lock)
    return f"a command works on {run.folder.root} ({who}): asked again when it has ended" if who else ""


def _known(cursor: str | None) -> dict[str, str]:
    """The state of each model, by name, when it was last evaluated. A cursor in another format (from older code, or
    from a person) counts as empty: the stages keep what is unchanged."""
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return {str(name): str(state) for name, state in found.items()} if isinstance(found, dict) else {}


def _sources(run: Run) -> list[Path]:
    """The folders that the run's clips come from: its corpus, or the folders from which that is cut or combined."""
    if run.corpus_parts:
        return [folder for part in run.corpus_parts for folder in (part.root, part.tables) if folder is not None]
    return [run.cut_from.videos, run.cut_from.tables] if run.cut_from else [run.corpus_root]


def _seconds_since_last_write(folders: Iterable[Path], without: Path | None = None) -> float:
    """By the time of an inode's last change, because a copy may keep the original's modification time."""
    last = max((stat.st_ctime for folder in folders for stat in listing_of(folder, without).values()), default=0.0)
    return time.time() - last


def _run_config() -> dict[str, object]:
    return {"resources": {"run": {"config": default_run(keep=True).model_dump()}}}


def _tags(run: Run) -> dict[str, str]:
    return {"privfedtalk/run": run.folder.root.name}


ALL = [new_clips, new_models]
