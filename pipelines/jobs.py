"""The jobs: each takes the run a floor further, in one process and in an order that reads like the pipeline."""

from __future__ import annotations

import dagster as dg

PREPARE, TRAIN, EVALUATE, REPORT, ATTACK = "prepare", "train", "evaluate", "reports", "attack"

WHOLE_RUN = (PREPARE, TRAIN, EVALUATE, REPORT)
"""One after the other they are the demo. Four runs, because client buckets and methods are other partitions."""

prepare = dg.define_asset_job(
    PREPARE,
    selection=dg.AssetSelection.groups("corpus", "preparation") | dg.AssetSelection.assets("vae"),
    description="Clips to shards: corpus, manifest, people, crops, clients, autoencoder, latents and speech features.",
)
train = dg.define_asset_job(
    TRAIN,
    selection=dg.AssetSelection.assets("rulers", "backbone") | dg.AssetSelection.groups("federation"),
    description="The backbone on public speakers, then one federated adapter a method.",
)
evaluate = dg.define_asset_job(
    EVALUATE,
    selection=dg.AssetSelection.groups("evaluation"),
    description="Every method and reference on the held-out clips of clients and on unseen people.",
)
report = dg.define_asset_job(
    REPORT,
    selection=dg.AssetSelection.groups("reports"),
    description="results.json and the page, then the quality gates.",
)
attack = dg.define_asset_job(
    ATTACK,
    selection=dg.AssetSelection.groups("attacks"),
    description="What adversaries make of a trained run. Not part of a whole run; reports made afterwards show it.",
)

ALL = [prepare, train, evaluate, report, attack]
