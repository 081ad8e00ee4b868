"""Schedules: what runs by the clock."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import dagster as dg

from common.folders import RunFolder
from common.locks import busy
from pipelines import jobs
from pipelines.resources import default_configuration, default_run

_nightly = default_configuration().nightly


@dg.schedule(
    job=jobs.nightly,
    cron_schedule=_nightly.cron,
    execution_timezone=_nightly.time_zone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="By default at two o'clock (UTC): the newest model of every method of the default run on the panel.",
)
def nightly_evaluation(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run a night, named by its date; none as long as nothing is trained, or while a command works on the run.

    Nights that passed while nothing ran are not repeated: today's models would be recorded under their dates. Dagster
    requests only the last of them, and the checks name the night that they compare with.
    """
    root = default_configuration().root
    # `privfedtalk.json` is the last file of an adapter.
    if not any(RunFolder(root).root.glob("federation/*/adapter/privfedtalk.json")):
        return dg.SkipReason(f"{root} has no trained model yet: `privfedtalk demo` or `privfedtalk train` makes one")
    night = context.scheduled_execution_time.astimezone(ZoneInfo(_nightly.time_zone)).strftime("%Y-%m-%d")
    if who := busy(RunFolder(root).command_lock):
        return dg.SkipReason(f"a command works on {root} ({who}): its models change, so {night} is not measured")
    return dg.RunRequest(
        run_key=night,
        run_config={
            "ops": {"night": {"config": {"night": night}}},
            "resources": {"run": {"config": default_run().model_dump()}},
        },
        tags={"privfedtalk/night": night, "privfedtalk/run": root.name},
    )


ALL = [nightly_evaluation]
