"""Dagster's jobs, in the order of the pipeline: each takes a run one floor further, in one process."""

from __future__ import annotations

import dagster as dg

PREPARE, TRAIN, EVALUATE, REPORT, ATTACK = "prepare", "train", "evaluate", "reports", "attack"
PAPER_TABLES, NIGHTLY = "paper_tables", "nightly"

WHOLE_RUN = (PREPARE, TRAIN, EVALUATE, REPORT)
"""The demo is these jobs in order: separate runs, because client buckets and methods are different partitions."""

WORKER_RETRIES = {"dagster/max_retries": "2"}
"""A run whose process died (a reboot, the memory killer) starts again and keeps what is done; a run that failed with an
error does not: `run_retries` in dagster.yaml."""


def _floor(name: str, unattended: bool = False) -> dict[str, str]:
    return {"privfedtalk/floor": name, **(WORKER_RETRIES if unattended else {})}


prepare = dg.define_asset_job(
    PREPARE,
    selection=dg.AssetSelection.groups("corpus", "preparation") | dg.AssetSelection.assets("vae"),
    description="Clips to shards: corpus, manifest, people, crops, clients, autoencoder, latents and speech features.",
    tags=_floor("preparation", unattended=True),
)
train = dg.define_asset_job(
    TRAIN,
    selection=dg.AssetSelection.assets("rulers", "backbone") | dg.AssetSelection.groups("federation"),
    description="The backbone on public speakers, then one federated adapter a method.",
    tags=_floor("training"),
)
evaluate = dg.define_asset_job(
    EVALUATE,
    selection=dg.AssetSelection.assets("evaluation"),
    description="Every method and reference on the held-out clips of clients and on unseen people.",
    tags=_floor("evaluation", unattended=True),
)
report = dg.define_asset_job(
    REPORT,
    selection=dg.AssetSelection.groups("reports") - dg.AssetSelection.assets("tables"),
    description="results.json and the page, then the quality gates.",
    tags=_floor("reports"),
)
paper_tables = dg.define_asset_job(
    PAPER_TABLES,
    selection=dg.AssetSelection.assets("tables"),
    description="The paper's tables (CSV, Markdown, LaTeX) and figures (PNG, SVG, mp4) of what is measured already.",
    tags=_floor("reports"),
)
nightly = dg.define_asset_job(
    NIGHTLY,
    selection=dg.AssetSelection.assets("night"),
    description="The newest model of every method on the public panel, compared with the night before.",
    tags=_floor("evaluation", unattended=True),
)
attack = dg.define_asset_job(
    ATTACK,
    selection=dg.AssetSelection.groups("attacks"),
    description="Attacks on a trained run. Not part of a whole run; reports made afterwards show their results.",
    tags=_floor("attacks"),
)

ALL = [prepare, train, evaluate, report, paper_tables, nightly, attack]
