"""What adversaries make of a trained run. Only on demand: none of it is needed for what people read of a run."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import dagster as dg

from assets.preparation.shards import shards
from assets.stage.metadata import table
from assets.stage.partitions import every_partition
from assets.stage.run import Run
from assets.stage.transient import retried
from assets.training.backbone import ACCELERATOR, backbone
from assets.training.federation import adapter
from assets.training.privacy import trained

GROUP = "attacks"


@dg.asset(
    group_name=GROUP,
    kinds={"json"},
    deps=[every_partition(adapter)],
)
@retried
def canary_audit(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """How well canaries can be told apart after the claimed noise, against the claimed epsilon, for each method."""
    from evaluation.attacks.canaries import audit_run

    rows = []
    for method in trained(run):
        found = audit_run(run.folder, method)
        rows.append(
            {
                "method": method,
                "claimed": found.claimed_epsilon,
                "one_shot": found.one_shot.value,
                "at_least": max(found.final.value, found.all_iterates.value, found.recomputed.value),
                "verdict": found.verdict,
            }
        )
    return dg.MaterializeResult(metadata={"methods": table(rows)})


@dg.asset(
    group_name=GROUP,
    kinds={"json", "pytorch"},
    deps=[
        every_partition(shards),
        backbone,
        every_partition(adapter),
    ],
    pool=ACCELERATOR,
)
@retried
def membership_inference(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Whether the clients of each released adapter can be told from unseen people; without shadow runs."""
    from evaluation.attacks.membership import attack_membership
    from training.federation.methods import named

    rows = []
    for method in trained(run):
        if named(method).sends and not named(method).pooled:
            found = attack_membership(run.folder, method, run.training, run.seed)
            areas = {name: round(area.value, 3) for name, area in found.areas.items()}
            rows.append({"method": method, **areas, "verdict": found.verdict})
    return dg.MaterializeResult(metadata={"methods": table(rows)})
