"""Evaluation: every method and every reference on the same held-out clips, measured by the same frozen networks."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import json
from functools import partial
from typing import Any

import dagster as dg

from assets.preparation.corpus import clients
from assets.preparation.shards import dealing, shards
from assets.stage.metadata import pictures, playing
from assets.stage.partitions import evaluated_methods, every_partition, in_one_run, own_adapter
from assets.stage.refusals import refusals
from assets.stage.run import Run
from assets.stage.stages import digest
from assets.stage.transient import retried
from assets.training.backbone import ACCELERATOR, backbone, rulers, vae
from assets.training.federation import adapter
from common.folders import INSTRUMENTS, METRICS, VALIDATION_LOSS
from evaluation.catalogue import personal_of

GROUP = "evaluation"
MEASURED = (METRICS, VALIDATION_LOSS, INSTRUMENTS)


@dg.asset(
    group_name=GROUP,
    kinds={"pytorch", "parquet"},
    partitions_def=evaluated_methods,
    backfill_policy=in_one_run,
    deps=[
        clients,
        dealing,
        every_partition(shards),
        vae,
        rulers,
        backbone,
        dg.AssetDep(adapter, partition_mapping=own_adapter),
    ],
    pool=ACCELERATOR,
)
@retried
def evaluation(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> None:
    """Generated clips and their metrics: a row for each clip and metric, a video a client, the paired held-out loss."""
    versions = [_evaluate(context, run, method) for method in context.partition_keys]
    # A Dagster run has one data version; if it evaluates several methods, that is a digest of all their versions.
    version = versions[0] if len(versions) == 1 else digest(versions)
    context.set_data_version(context.asset_key, dg.DataVersion(version))


def measured_with(run: Run, method: str) -> list[Any]:
    """The settings that decide a method's figures, the measuring networks, and who has not agreed to be generated."""
    from evaluation.measuring.instruments import networks_version

    networks = networks_version(run.evaluation)
    return [
        *(method, run.evaluation, run.training.generation, run.training.objective, networks),
        *refusals(run, "generation"),
    ]


def version_of(run: Run, method: str) -> str:
    """The data version of a method's evaluation: a hash of what decides its figures, not of the figures.

    So two evaluations with the same version must agree, and another version means that something was changed.
    Models and data count by the content versions of their stages.
    """
    return digest(run.inputs(evaluation, measure, settings=measured_with(run, method), method=method))


def _evaluate(context: dg.AssetExecutionContext, run: Run, method: str) -> str:
    folder = run.folder.evaluation(method)
    run.stage(
        evaluation,
        partial(measure, run, method),
        method=method,
        settings=measured_with(run, method),
        outputs=lambda: [
            *(folder / name for name in MEASURED),
            *(own for name in MEASURED if (own := run.folder.evaluation(personal_of(method)) / name).exists()),
        ],
    )
    _show(context, run, method)
    return version_of(run, method)


def measure(run: Run, method: str) -> None:
    from evaluation.measuring.runs import measure_with_personal

    measure_with_personal(run.folder, method, run.evaluation, run.training, run.seed, run.workers)


def _show(context: dg.AssetExecutionContext, run: Run, method: str) -> None:
    """Add the means over the clients' clips, and frames of the first generated video, to the asset's metadata."""
    from evaluation.measuring.protocol import read_metrics, summarise
    from preparation.media.previews import moments

    folder = run.folder.evaluation(method)
    rows = read_metrics(folder / METRICS)
    means = summarise(rows[rows["role"] == "client"]).get(method, {})
    losses = json.loads((folder / VALIDATION_LOSS).read_text(encoding="utf-8"))
    metadata: dict = {name: round(value.mean, 4) for name, value in means.items() if value.mean == value.mean}
    if losses:
        metadata["validation_loss"] = round(sum(losses.values()) / len(losses), 5)
    videos = sorted((folder / "videos").glob("*.mp4"))
    if videos:
        metadata["frames"] = pictures(moments(videos[0], range(0, 48, 6)))
        metadata["plays"] = playing(videos[0])
        metadata["the same with sound"] = dg.MetadataValue.path(videos[0])
    context.add_asset_metadata(metadata, partition_key=method)
