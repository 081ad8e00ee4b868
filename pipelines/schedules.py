"""What runs by the clock."""

from __future__ import annotations

import dagster as dg

from assets.partitions import evaluated_methods
from pipelines import jobs


@dg.schedule(job=jobs.evaluate, cron_schedule="0 2 * * *", execution_timezone="UTC")
def nightly_evaluation(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Every night at two (UTC), the newest model of every method, one run a method."""
    night = context.scheduled_execution_time.strftime("%Y-%m-%d")
    return [
        dg.RunRequest(run_key=f"{night}-{method}", partition_key=method)
        for method in evaluated_methods.get_partition_keys()
    ]


ALL = [nightly_evaluation]
