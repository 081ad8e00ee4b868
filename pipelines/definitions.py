"""All that Dagster is told: `dagster dev` from the project's root loads this module."""

from __future__ import annotations

import dagster as dg

from assets import backbone, corpus, evaluation, federation, privacy, reports, shards
from pipelines import jobs, schedules
from pipelines.resources import default_run

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([corpus, shards, backbone, federation, evaluation, privacy, reports]),
    asset_checks=dg.load_asset_checks_from_modules([corpus, shards, federation, privacy, reports]),
    jobs=jobs.ALL,
    schedules=schedules.ALL,
    resources={"run": default_run()},
    # Bodies use all cores themselves; a process a step would only add seconds and double the memory.
    executor=dg.in_process_executor,
)
