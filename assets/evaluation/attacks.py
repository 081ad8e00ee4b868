"""Attacks on a trained run. They run on demand only: no other asset depends on them."""

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
    """Canary audit of each method: the epsilon that attacks on the real rounds find, beside the claimed epsilon."""
    from evaluation.attacks.canaries import audit_run

    rows = []
    for method in trained(run):
        audit = audit_run(run.folder, method)
        rows.append(
            {
                "method": method,
                "claimed": audit.claimed_epsilon,
                "one_shot": audit.one_shot.value,
                "at_least": max(audit.final.value, audit.all_iterates.value, audit.recomputed.value),
                "verdict": audit.verdict,
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
    """Membership inference on each released adapter: do its clients differ from unseen people? No shadow runs."""
    from evaluation.attacks.membership import attack_membership
    from training.federation.methods import named

    rows = []
    for method in trained(run):
        if named(method).federates:
            attack = attack_membership(run.folder, method, run.training, run.seed)
            areas = {name: round(area.value, 3) for name, area in attack.areas.items()}
            rows.append({"method": method, **areas, "verdict": attack.verdict})
    return dg.MaterializeResult(metadata={"methods": table(rows)})
