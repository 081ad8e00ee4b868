"""Gradient inversion: how much of a client's face its update and the sums give away. Runs on demand only."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import json
from functools import partial

import dagster as dg

from assets.preparation.shards import shards
from assets.stage.metadata import picture, table
from assets.stage.partitions import every_partition
from assets.stage.refusals import refusals
from assets.stage.run import Run
from assets.stage.transient import retried
from assets.training.backbone import ACCELERATOR, backbone, rulers, vae
from assets.training.federation import adapter
from common.errors import PrivFedTalkError
from common.folders import INVERSION, INVERSION_SHEET

GROUP = "attacks"


@dg.asset(
    group_name=GROUP,
    kinds={"pytorch", "json"},
    deps=[
        every_partition(shards),
        vae,
        rulers,
        backbone,
        every_partition(adapter),
    ],
    pool=ACCELERATOR,
)
@retried
def inversion(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Gradient inversion on the run's first federated method, beside the public mean face: figures and pictures."""
    from evaluation.attacks.inversion_figures import run_inversion
    from evaluation.attacks.inversion_run import InversionSettings
    from training.federation.methods import named

    federated = [name for name in run.training.methods if named(name).federates]
    if not federated:
        raise PrivFedTalkError(
            "no method of this run federates, so that there is no update to attack", "training.methods=[fedavg]"
        )
    method = federated[0]
    folder, settings = run.folder.attack("inversion", method), InversionSettings()
    stage = run.stage(
        inversion,
        partial(run_inversion, run.folder, method, run.training, run.seed, settings),
        method=method,
        settings=[settings, *refusals(run, "training", "generation")],
        outputs=lambda: [folder],
    )
    report = json.loads((folder / INVERSION).read_text(encoding="utf-8"))
    rows = [{"attack": leak["row"], "sees": leak["sees"], "dB over the mean face": leak["gain"]["mean"],
             "low": leak["gain"]["low"], "high": leak["gain"]["high"]} for leak in report["leaks"]]  # fmt: skip
    return dg.MaterializeResult(
        metadata={"faces": picture(folder / INVERSION_SHEET), "leaks": table(rows), "told": report["sentences"]},
        data_version=dg.DataVersion(stage.version),
    )
