"""Runs jobs in this process, on the project's own Dagster instance, so that `dagster dev` shows them."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import PrivFedTalkError
from common.files import partial_of
from common.folders import RunFolder
from common.locks import locked, one_at_a_time
from common.workers.processes import shielded
from pipelines.configuration.tree import PROJECT, Configuration, configure, remember, without_hidden
from pipelines.errors import FailedCheckError, break_circles

if TYPE_CHECKING:
    import dagster as dg

OF_THE_COMMAND_LINE = {"concurrency": {"pools": {"default_limit": 1, "granularity": "run"}}}
"""Unlike in `dagster.yaml`, a run not launched from Dagster's queue takes no place in a pool. A killed run would
keep its place, and all others would wait for it; and stages that DVC runs side by side would take turns."""

DAGSTER_VARIABLE = "PRIVFEDTALK_DAGSTER"
"""Names the folder of Dagster's records where it is not to be `.dagster` of the project, such as a read-only one."""
LOCAL_STORES = (
    (
        "local_artifact_storage",
        "artifacts",
        {"module": "dagster.core.storage.root", "class": "LocalArtifactStorage"},
    ),
    (
        "compute_logs",
        "compute_logs",
        {"module": "dagster.core.storage.local_compute_log_manager", "class": "LocalComputeLogManager"},
    ),
)
"""The same stores as in `dagster.yaml`."""


def run_jobs(
    names: Sequence[str],
    profile: str,
    overrides: Mapping[str, Any],
    keep: bool = True,
    instance: dg.DagsterInstance | None = None,
    consent: Path | None = None,
) -> None:
    """Run the named jobs one after the other over the partitions that the configuration names.

    A job is one Dagster run, or one for each stretch of consecutive partitions. Without an `instance`, the one of the
    project's `dagster.yaml` records the runs. After preparation, what clients agreed to is recorded from the table
    `consent`, a full path (see `preparation.clients.consent.record_from_file`). Raises BusyError if another process
    runs jobs on the same run, because this one would change the configuration that the other has remembered. Raises
    NotReadyError before the first stage of training if something is missing.
    """
    from pipelines.definitions import defs
    from pipelines.jobs import PREPARE, TRAIN
    from pipelines.resources import check_machine, check_training, open_run
    from preparation.clients.consent import record_from_file

    configuration = configure(profile, overrides)
    run = open_run(configuration, keep)
    if names[0] == TRAIN:
        # Another command may be preparing the run; a shared lock makes no folder for a run that does not exist.
        with locked(run.folder.command_lock, TRAIN, shared=True):
            check_training(run)
    elif TRAIN in names:
        check_machine(run)
    with locked(run.folder.command_lock, " and ".join(names)):
        remember(configuration)
        run_config = _run_config(profile, overrides, keep)
        with _instance(instance) as instance:
            for name in names:
                if name == TRAIN != names[0]:  # what it needs was made by the jobs before it
                    check_training(run)
                job = defs.resolve_job_def(name)
                for number, ends in enumerate(_stretches(job, configuration.training.methods) or [("", "")]):
                    # Assets without partitions were made with the first stretch.
                    only = _partitioned(job) if number else None
                    _run(job, run_config, instance, _range(*ends) | _tags(configuration, profile), only)
                if name == PREPARE and consent is not None:
                    record_from_file(run.folder, consent)


def make_assets(
    job: str,
    names: Sequence[str],
    profile: str,
    overrides: Mapping[str, Any],
    partition: str = "",
    instance: dg.DagsterInstance | None = None,
) -> None:
    """Materialise some assets of a job, with their checks: all partitions, or only `partition`.

    This is for stages of DVC, which may work side by side on one run: they share the run's lock, and raise BusyError
    while a command holds it.
    """
    import dagster as dg

    from pipelines.definitions import defs
    from pipelines.resources import shared_run

    configuration, run_config = configure(profile, overrides), _run_config(profile, overrides, keep=True)
    definition, only = defs.resolve_job_def(job), [dg.AssetKey(name) for name in names]
    partitioned = [key for key in _partitioned(definition) if key in only]
    ends = (partition, partition) if partition else _stretches(definition, ())[0] if partitioned else ("", "")
    what = f"a stage of dvc repro ({', '.join(names)})"
    with shared_run(RunFolder(configuration.root), what), _instance(instance) as instance:
        _run(definition, run_config, instance, _range(*ends) | _tags(configuration, profile), only)


@contextlib.contextmanager
def _instance(given: dg.DagsterInstance | None) -> Iterator[dg.DagsterInstance]:
    """The instance `given`, or the project's; inside the body the working directory is the project's root."""
    os.environ["DAGSTER_HOME"] = str(PROJECT)
    # dagster.yaml names its storage relative to the working directory.
    with contextlib.chdir(PROJECT), given or _open_storage() as instance:
        _shield_logs(instance)
        yield instance


def _shield_logs(instance: dg.DagsterInstance) -> None:
    """Keep Ctrl-C from the processes by which Dagster mirrors a step's output: they would end, with a traceback, before
    the step has written its last lines."""
    manager = instance.compute_log_manager
    capture_logs = manager.capture_logs

    @contextlib.contextmanager
    def captured(log_key: Sequence[str]) -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            with shielded():
                context = stack.enter_context(capture_logs(log_key))
            yield context

    setattr(manager, "capture_logs", captured)  # noqa: B010  # mypy forbids to assign to a method


def _open_storage() -> dg.DagsterInstance:
    """The instance of the project's `dagster.yaml`; `local_temp` is the call that takes a folder and overrides.

    One process at a time opens it: two that create the storage's tables at once would leave them unusable.
    """
    import dagster as dg
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    folder, settings = _storage()
    try:
        with one_at_a_time(folder / "opening.lock"):
            return dg.DagsterInstance.local_temp(str(PROJECT), OF_THE_COMMAND_LINE | settings)
    except (CommandError, SQLAlchemyError) as error:
        raise PrivFedTalkError(
            f"Dagster's storage in {folder / 'storage'} cannot be opened: {_first_line(error)}",
            "end other Dagster processes of this project and try again; if that does not help, move the folder away: "
            "it holds the history of runs, no model and no result",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _storage() -> tuple[Path, dict[str, Any]]:
    """The folder of Dagster's records, and the settings that name it if it is not the one of `dagster.yaml`. Raises
    PrivFedTalkError if it cannot be written."""
    named = os.environ.get(DAGSTER_VARIABLE)
    folder = Path(named).expanduser().resolve() if named else PROJECT / ".dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = partial_of(folder / "storage")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PrivFedTalkError(
            f"Dagster, which keeps a record of all that is run, cannot write to {folder}: {error.strerror}",
            f"name a folder that you may write to: export {DAGSTER_VARIABLE}=FOLDER",
        ) from error
    if not named:
        return folder, {}
    return folder, {
        "storage": {"sqlite": {"base_dir": str(folder / "storage")}},
        **{key: {**kept, "config": {"base_dir": str(folder / name)}} for key, name, kept in LOCAL_STORES},
    }


def _range(first: str, last: str) -> dict[str, str]:
    """The tags of a run over the partitions from `first` to `last`; empty if `first` is empty."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if first else {}


def _tags(configuration: Configuration, profile: str) -> dict[str, str]:
    """Tags by which people find runs again."""
    values = {"run": configuration.run, "profile": Path(profile).stem, "seed": str(configuration.seed)}
    return {f"privfedtalk/{name}": value for name, value in values.items()}


def _run_config(profile: str, overrides: Mapping[str, Any], keep: bool) -> dict[str, Any]:
    """The configuration of a Dagster run. Dagster keeps and shows it, so hidden settings are not in it."""
    profile, overrides = without_hidden(profile, overrides)
    return {
        "resources": {"run": {"config": {"profile": profile, "overrides": overrides, "keep": keep}}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},  # stages report themselves
    }


def _run(
    job: dg.JobDefinition,
    run_config: dict[str, Any],
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    only: list[dg.AssetKey] | None,
) -> None:
    import dagster as dg

    from pipelines.resources import within_command

    run_id = str(uuid.uuid4())
    try:
        with within_command():
            job.execute_in_process(
                run_config=run_config, instance=instance, run_id=run_id, tags=tags, asset_selection=only
            )
    except dg.DagsterExecutionInterruptedError as error:
        raise KeyboardInterrupt from error
    except dg.DagsterError as error:
        failed = _failed_checks(instance, run_id)
        if not failed:
            break_circles(error)
            raise
        raise FailedCheckError(
            f"job {job.name}: " + "; ".join(failed), "open the asset's checks in `dagster dev`"
        ) from error


def _stretches(job: dg.JobDefinition, methods: Collection[str]) -> list[tuple[str, str]]:
    """First and last of each stretch of the job's partitions, leaving out the methods that are not among `methods`."""
    from training.federation.methods import METHODS

    stretches: list[tuple[str, str]] = []
    before = False
    for key in job.partitions_def.get_partition_keys() if job.partitions_def else []:
        wanted = key in methods or key not in METHODS
        if wanted:
            stretches[-1:] = [(stretches[-1][0], key)] if before else [*stretches[-1:], (key, key)]
        before = wanted
    return stretches


def _partitioned(job: dg.JobDefinition) -> list[dg.AssetKey]:
    layer = job.asset_layer
    return [key for key in layer.executable_asset_keys if layer.get(key).partitions_def is not None]


def _failed_checks(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What the failed blocking checks of a run said, as "asset: description"."""
    import dagster as dg

    connection = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [record.event_log_entry.dagster_event.event_specific_data for record in connection.records]
    return [
        f"{'/'.join(evaluation.asset_key.path)}: {evaluation.description or evaluation.check_name}"
        for evaluation in evaluations
        if evaluation.blocking and not evaluation.passed
    ]
