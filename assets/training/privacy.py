"""Reports of what each method may claim about privacy, and a check that none claims more than the records bear out."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import dagster as dg

from assets.stage.metadata import table
from assets.stage.partitions import every_partition
from assets.stage.run import Run
from assets.stage.transient import retried
from assets.training.federation import adapter

GROUP = "reports"


@dg.asset(
    group_name=GROUP,
    kinds={"html", "json"},
    deps=[every_partition(adapter)],
)
@retried
def privacy(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """A privacy report for each method as Markdown, JSON and a page, under `report/privacy`."""
    from evaluation.report.privacy_page import read_privacy, write_privacy_reports
    from training.claims.outdated import mark_outdated

    methods = trained(run)
    for method in methods:
        mark_outdated(run.folder, method)
    pages = write_privacy_reports(run.folder, methods, run.folder.report / "privacy")
    reports = {method: read_privacy(run.folder, method) for method in methods}
    columns = ("verdict", "epsilon_release", "epsilon_server", "epsilon_client", "delta", "rounds", "mark")
    rows = [{"method": method, **{name: report[name] for name in columns}} for method, report in reports.items()]
    return dg.MaterializeResult(metadata={"methods": table(rows), "pages": [str(path) for path in pages]})


@dg.asset_check(asset=privacy, blocking=True)
def no_false_claims(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """Every report agrees with the records of its rounds, and every model's mark with its report."""
    from training.claims.verification import contradictions_of

    found = [f"{method}: {line}" for method in trained(run) for line in contradictions_of(run.folder, method)]
    return dg.AssetCheckResult(
        passed=not found, description="; ".join(found) if found else "no model claims more privacy than it has"
    )


def trained(run: Run) -> list[str]:
    """The methods of this run that have an adapter."""
    return [method for method in run.training.methods if run.folder.adapter(method).exists()]
