"""Runs jobs in this process, on the project's own Dagster instance, so that `dagster dev` shows them."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.configuration import PROJECT, load, remember
from pipelines.errors import FailedCheckError

if TYPE_CHECKING:
    import dagster as dg


def run_jobs(
    names: Sequence[str],
    profile: str,
    overrides: Sequence[str],
    keep: bool = True,
    instance: dg.DagsterInstance | None = None,
) -> None:
    """Run the named jobs one after the other over all their partitions, each as one Dagster run.

    Without an `instance`, the one of the project's `dagster.yaml` remembers the runs.
    """
    import dagster as dg

    from pipelines.definitions import defs

    remember(load(profile, overrides))
    settings = {"profile": profile, "overrides": list(overrides), "keep": keep}
    run_config = {
        "resources": {"run": {"config": settings}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},  # stages report themselves
    }
    os.environ["DAGSTER_HOME"] = str(PROJECT)
    # dagster.yaml names its storage relative to the working directory.
    with contextlib.chdir(PROJECT), instance or dg.DagsterInstance.get() as instance:
        for name in names:
            job = defs.resolve_job_def(name)
            run_id = str(uuid.uuid4())
            try:
                job.execute_in_process(
                    run_config=run_config, instance=instance, run_id=run_id, tags=_all_partitions(job)
                )
            except dg.DagsterExecutionInterruptedError as error:
                raise KeyboardInterrupt from error
            except dg.DagsterError as error:
                failed = _failed_checks(instance, run_id)
                if not failed:
                    raise
                raise FailedCheckError(
                    f"job {name}: " + "; ".join(failed), "open the asset's checks in `dagster dev`"
                ) from error


def _all_partitions(job: dg.JobDefinition) -> dict[str, str]:
    """Tags that make one run cover every partition of the job's partitioned assets."""
    if job.partitions_def is None:
        return {}
    keys = job.partitions_def.get_partition_keys()
    return {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}


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
