"""What runs by the clock."""

from __future__ import annotations

import dagster as dg

from assets.partitions import REFERENCES
from pipelines import jobs
from pipelines.configuration import load
from pipelines.resources import default_run


@dg.schedule(job=jobs.evaluate, cron_schedule="0 2 * * *", execution_timezone="UTC")
def nightly_evaluation(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Every night at two (UTC), the newest model of every method of the default run, one run a method."""
    chosen = default_run()
    methods = load(chosen.profile, chosen.overrides).training.methods
    night = context.scheduled_execution_time.strftime("%Y-%m-%d")
    return [dg.RunRequest(run_key=f"{night}-{method}", partition_key=method) for method in (*REFERENCES, *methods)]


ALL = [nightly_evaluation]
