"""One federated adapter for each method: the only thing that clients train, and the only thing that leaves them."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from assets.preparation.corpus import clients
from assets.preparation.shards import dealing, shards
from assets.stage.metadata import drawing, table
from assets.stage.partitions import every_partition, federated_methods, in_one_run
from assets.stage.run import Run
from assets.stage.transient import retried
from assets.training.backbone import ACCELERATOR, backbone, rulers, vae
from common.files import read_json_lines
from common.folders import ADAPTER_WEIGHTS, MEMORY
from preparation.settings import CorpusKind

if TYPE_CHECKING:
    from training.execution import Pool

GROUP = "federation"


@dg.asset(
    group_name=GROUP,
    kinds={"pytorch", "peft"},
    partitions_def=federated_methods,
    backfill_policy=in_one_run,
    deps=[clients, dealing, every_partition(shards), vae, rulers, backbone],
    pool=ACCELERATOR,
)
@retried
def adapter(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> None:
    """Algorithm 1 under one method's settings: LoRA weights, one JSON line a round, the privacy it cost."""
    from training.execution import open_pool

    with open_pool(run.training.execution, run.workers) as pool:
        versions = [_federate(context, run, method, pool) for method in context.partition_keys]
    context.set_data_version(context.asset_key, dg.DataVersion("-".join(versions)))


def _federate(context: dg.AssetExecutionContext, run: Run, method: str, pool: "Pool") -> str:
    from evaluation.figures.rounds import round_curves
    from training.federation.methods import configure

    folder = run.folder
    refused = _without_consent(run)
    stage = run.stage(
        adapter,
        partial(federate_method, run, method, pool),
        method=method,
        settings=[configure(method, run.training), json.dumps(refused)],
        outputs=lambda: [
            folder.adapter(method),
            folder.rounds(method),
            *folder.root.glob(f"clients/*/methods/{method}/adapter"),
        ],
    )
    rounds = read_json_lines(folder.rounds(method))
    columns = (
        *("round", "outcome", "survivors", "public_validation_loss", "score_mean", "within_clip", "update_norm"),
        *("epsilon_release", "bytes_up"),
    )
    memory = folder.federation(method) / MEMORY
    context.add_asset_metadata(
        {
            **({"memory": json.loads(memory.read_text(encoding="utf-8"))} if memory.exists() else {}),
            "rounds": len(rounds),
            "public validation loss": rounds[-1]["public_validation_loss"],
            "curves": drawing(round_curves(rounds)),
            "history": table([{column: line[column] for column in columns} for line in rounds]),
        },
        partition_key=method,
    )
    return stage.version


def federate_method(run: Run, method: str, pool: "Pool") -> None:
    from preparation.clients.roles import load_clients, unit_of
    from training.pipeline import federate

    unit = unit_of(load_clients(run.folder.clients_table), run.preparation.corpus, run.corpus_kind)
    federate(run.folder, method, run.training, run.seed, resume=run.keep, pool=pool, unit=unit)


def _without_consent(run: Run) -> list[str]:
    """The clients who did not agree to training, or no longer do; each is named on standard error, with the reason."""
    from preparation.clients.consent import objections, record_rendered
    from preparation.clients.roles import load_clients, of_role

    if run.corpus_kind is CorpusKind.STUDIO:  # runs older than these records
        record_rendered(run.folder)
    clients = of_role(load_clients(run.folder.clients_table), "client")
    refused = objections(run.folder, clients, "training", run.training.consent.required)
    for client, reason in refused.items():
        sys.stderr.write(f"consent: {client} does not take part ({reason})\n")
    return sorted(refused)


@dg.asset_check(asset=adapter, blocking=True)
def adapters_finite(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """Every weight of every existing adapter is a finite number."""
    import numpy as np
    from safetensors.numpy import load_file

    broken = [
        str(path.relative_to(run.folder.root))
        for path in (run.folder.adapter(method) / ADAPTER_WEIGHTS for method in run.folder.trained_methods)
        if not all(np.isfinite(tensor).all() for tensor in load_file(path).values())
    ]
    return dg.AssetCheckResult(passed=not broken, description=f"not finite: {broken}" if broken else "all finite")
