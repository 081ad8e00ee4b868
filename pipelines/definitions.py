"""All of Dagster's definitions: `dagster dev` from the project's root loads this module."""

from __future__ import annotations

import dagster as dg

from assets.evaluation import attacks, inversion, nightly, reports, tables
from assets.evaluation import panel as evaluation
from assets.preparation import corpus, shards
from assets.training import backbone, federation, privacy
from pipelines import jobs, schedules, sensors
from pipelines.resources import default_run

OWNERS = {
    "corpus": "team:preparation",
    "preparation": "team:preparation",
    "backbone": "team:training",
    "federation": "team:training",
    "evaluation": "team:evaluation",
    "reports": "team:evaluation",
    "attacks": "team:privacy",
}
"""The owner of each group of assets. A deployment puts addresses here."""

MODULES = [
    corpus, shards, backbone, federation, evaluation, nightly, privacy, reports, tables, attacks, inversion,
]  # fmt: skip

defs = dg.Definitions(
    assets=dg.map_asset_specs(
        lambda spec: spec.replace_attributes(owners=[OWNERS[spec.group_name or ""]]),
        dg.load_assets_from_modules(MODULES),
    ),
    asset_checks=dg.load_asset_checks_from_modules(MODULES),
    jobs=jobs.ALL,
    schedules=schedules.ALL,
    sensors=sensors.ALL,
    resources={"run": default_run()},
    # Bodies use all cores themselves; a process for each step would only add seconds and double the memory.
    executor=dg.in_process_executor,
)
