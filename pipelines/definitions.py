"""All that Dagster is told: `dagster dev` from the project's root loads this module."""

from __future__ import annotations

import dagster as dg

from assets import (
    attacks,
    backbone,
    corpus,
    evaluation,
    federation,
    inversion,
    privacy,
    privacy_utility,
    reports,
    shards,
)
from pipelines import jobs, schedules
from pipelines.resources import default_run, default_sweep

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [corpus, shards, backbone, federation, evaluation, privacy, reports, attacks, inversion, privacy_utility]
    ),
    asset_checks=dg.load_asset_checks_from_modules([corpus, shards, federation, privacy, reports]),
    jobs=jobs.ALL,
    schedules=schedules.ALL,
    resources={"run": default_run(), "sweep": default_sweep()},
    # Bodies use all cores themselves; a process a step would only add seconds and double the memory.
    executor=dg.in_process_executor,
)
