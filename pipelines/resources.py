"""The one resource: a run, opened from a profile and overrides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import dagster as dg

from assets.stage.run import HdtfSources, Run
from assets.stage.stages import PATIENCE_SECONDS
from common.errors import PrivFedTalkError
from common.files import writing
from common.folders import RunFolder
from common.locks import locked
from common.workers import available_cores
from pipelines import jobs
from pipelines.configuration.reader import combine, nested, read_yaml
from pipelines.configuration.tree import PROJECT, Configuration, check_open, configure
from preparation.settings import CorpusPart

VARIABLE = "PRIVFEDTALK_PARAMS"
PARAMS = PROJECT / os.environ.get(VARIABLE, "params.yaml")
"""The file that names the run on which Dagster works by itself; a deployment names its own file."""
SHAPE = {"profile": str, "set": Configuration}
"""The keys of that file that are read here, with their types."""


class RunResource(dg.ConfigurableResource[Run]):
    """A run: a profile with overrides (key `a.b.c` → value). `keep` skips stages whose inputs have not changed."""

    profile: str = "demo"
    overrides: dict = {}  # noqa: RUF012  # each instance gets its own; Dagster refuses null in a dict[str, Any]
    keep: bool = False

    def create_resource(self, context: dg.InitResourceContext) -> Run:
        return open_run(configure(self.profile, self.overrides), keep=self.keep)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Run]:
        """The run. No command may work on it until the job ends; raises BusyError if one does already."""
        run = self.create_resource(context)
        if _within_command.get():
            yield run
            return
        with _lock_for_dagster(run.folder, context):
            launched = context.run
            if launched and launched.job_name == jobs.TRAIN and not launched.asset_selection:
                check_training(run)
            yield run


def check_machine(run: Run) -> None:
    """Raise NotReadyError if this machine lacks something that training needs, such as a network's file."""
    from training.readiness import machine_lacks, not_ready

    if lacks := list(machine_lacks(run.training, run.workers)):
        raise not_ready(lacks)


def check_training(run: Run) -> None:
    """Raise NotReadyError if a stage of training would fail for something that can be seen before the first; name the
    clients who will not take part."""
    from training.readiness import check_ready

    check_ready(run.folder, run.training, run.workers)


_within_command = ContextVar("within_command", default=False)


@contextmanager
def within_command() -> Iterator[None]:
    """Jobs inside the body run for a command or a stage of DVC, which holds the run's lock; they do not take it."""
    token = _within_command.set(True)
    try:
        yield
    finally:
        _within_command.reset(token)


def _lock_for_dagster(folder: RunFolder, context: dg.InitResourceContext) -> AbstractContextManager[None]:
    """The run's lock for a job that Dagster launched.

    Dagster's jobs share it: the steps of one job may run in several processes, and several jobs may work on different
    stages, each of which has a lock of its own. A command holds it alone.
    """
    launched = context.run
    what = f"Dagster's job {launched.job_name} (run {launched.run_id[:8]})" if launched else "Dagster"
    return shared_run(folder, what)


def shared_run(folder: RunFolder, what: str) -> AbstractContextManager[None]:
    """The run's lock for `what`, which others may hold as well, but no command; makes the run's folder."""
    with writing(folder.root):
        folder.command_lock.parent.mkdir(parents=True, exist_ok=True)
    return locked(folder.command_lock, what, shared=True, patience=PATIENCE_SECONDS)


def open_run(configuration: Configuration, keep: bool) -> Run:
    """The run of a configuration; a relative path of a corpus starts at the project's root."""
    folder = RunFolder(configuration.root)
    corpus = configuration.corpus
    return Run(
        folder=folder,
        seed=configuration.seed,
        corpus_kind=corpus.kind,
        corpus_root=folder.corpus if corpus.root is None or corpus.tables else PROJECT / corpus.root,
        cut_from=HdtfSources(PROJECT / corpus.root, PROJECT / corpus.tables) if corpus.root and corpus.tables else None,
        corpus_parts=tuple(_from_project(part) for part in corpus.parts),
        studio=configuration.studio,
        preparation=configuration.preparation,
        training=configuration.training,
        evaluation=configuration.evaluation,
        workers=configuration.workers or available_cores(),
        gates=configuration.gates,
        nightly=configuration.nightly,
        quarantine_rate=configuration.quarantine_rate,
        keep=keep,
    )


def _from_project(part: CorpusPart) -> CorpusPart:
    tables = part.tables and PROJECT / part.tables
    return part.model_copy(update={"root": PROJECT / part.root, "tables": tables})


def default_run(keep: bool = False) -> RunResource:
    """The run that the file `PARAMS` names, on which `dagster dev` works."""
    params = _params()
    overrides = combine(params.get("set") or {})
    for key, value in overrides.items():
        check_open(nested(key.split("."), value), PARAMS.name)
    return RunResource(profile=params.get("profile", "demo"), overrides=overrides, keep=keep)


def _params() -> dict[str, Any]:
    try:
        return read_yaml(PARAMS, SHAPE)
    except PrivFedTalkError as error:
        if VARIABLE not in os.environ:
            raise
        raise PrivFedTalkError(
            f"{VARIABLE} names {os.environ[VARIABLE]}: {error.reason}", f"name another in {VARIABLE}, or unset it"
        ) from error


def default_configuration() -> Configuration:
    """The configuration of `default_run`."""
    run = default_run()
    return configure(run.profile, run.overrides)
