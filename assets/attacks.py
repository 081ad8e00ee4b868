"""What adversaries make of a trained run. Only on demand: none of it is needed for what people read of a run."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import dagster as dg

from assets.federation import adapter
from assets.privacy import trained
from assets.run import Run
from assets.showing import table

GROUP = "attacks"


@dg.asset(
    group_name=GROUP,
    kinds={"json"},
    deps=[dg.AssetDep(adapter, partition_mapping=dg.AllPartitionMapping())],
)
def canary_audit(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """How well canaries can be told apart after the claimed noise, against the claimed epsilon, for each method."""
    from training.canaries import audit_run

    rows = []
    for method in trained(run):
        found = audit_run(run.folder, method)
        rows.append(
            {
                "method": method,
                "claimed": found.claimed_epsilon,
                "one_shot": found.one_shot.value,
                "at_least": max(found.final.value, found.all_iterates.value),
                "verdict": found.verdict,
            }
        )
    return dg.MaterializeResult(metadata={"methods": table(rows)})
