"""results.json and the report page, and the checks that say whether the run is good enough."""

from __future__ import annotations

from functools import partial
from typing import Any

import dagster as dg

from assets.evaluation.panel import evaluation
from assets.preparation.corpus import manifest
from assets.preparation.facts import crop_facts
from assets.preparation.shards import client_report, dealing
from assets.stage.metadata import table
from assets.stage.partitions import REFERENCES, every_partition
from assets.stage.refusals import refusals
from assets.stage.run import Run
from assets.stage.stages import digest, read_records
from assets.stage.transient import retried
from assets.training.privacy import privacy

GROUP = "reports"


@dg.asset(
    group_name=GROUP,
    kinds={"json"},
    deps=[privacy, every_partition(evaluation)],
)
@retried
def results(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """results.json: metrics with standard errors, acceptance criteria, privacy, traffic, seconds, memory, versions."""
    from evaluation.report.gather import gather_results
    from evaluation.results.document import write_results

    folder = run.folder
    records = read_records(folder)
    made = {name: record for name, record in records.items() if name != "report"}
    facts = crop_facts(folder)
    found = gather_results(
        folder,
        run.training.methods,
        REFERENCES,
        seconds={name: record.seconds for name, record in made.items()},
        peak_memory_gb=max((record.peak_memory_gb for record in made.values()), default=0.0),
        corpus={
            "kind": run.corpus_kind.value,
            "rendered": run.renders,
            "speakers": facts.speakers,
            "clips": facts.clips,
            "refused": facts.refused,
            "face_rate": round(facts.face_rate, 5),
        },
        face_tracker=facts.tracker,
        seed=run.seed,
        required=run.training.consent.required,
    )
    write_results(found, folder.results)
    return dg.MaterializeResult(metadata={"methods": table(_summary(found["methods"])), "bars": table(found["bars"])})


@dg.asset(group_name=GROUP, kinds={"html"}, deps=[manifest, dealing, client_report, results])
@retried
def report(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """The self-contained page: table, videos with sound, sheets, curves, privacy, clients, what was left out."""
    path = run.folder.page
    stage = run.stage(
        report,
        partial(write_page, run),
        settings=refusals(run, "generation"),
        versions={"results": digest([run.folder.results.read_text(encoding="utf-8")])},
        outputs=lambda: [path],
    )
    return dg.MaterializeResult(
        metadata={"page": dg.MetadataValue.url(path.as_uri()), "megabytes": round(path.stat().st_size / 1e6, 2)},
        data_version=dg.DataVersion(stage.version),
    )


def write_page(run: Run) -> None:
    from evaluation.report.gather import gather_report
    from evaluation.report.page import write_report
    from evaluation.results.document import read_results

    found, required = read_results(run.folder.results), run.training.consent.required
    page = gather_report(run.folder, found, run.evaluation, shown_configuration(run), run.corpus_root, required)
    write_report(run.folder.report, page)


def shown_configuration(run: Run) -> dict[str, Any]:
    """The settings that differ from the defaults, with hidden values left out, as the page shows them."""
    groups = {"studio": run.studio, "preparation": run.preparation, "training": run.training}
    shown = {name: group.shown(exclude_defaults=True) for name, group in groups.items()}
    return {"seed": run.seed, **shown, "evaluation": run.evaluation.shown(exclude_defaults=True)}


@dg.asset_check(asset=report, blocking=True)
def quality_gates(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """Every acceptance criterion that could be measured is met. The page is written in any case and shows misses.

    The criteria were set on rendered people; other corpora have none.
    """
    from evaluation.results.document import read_results

    criteria = read_results(run.folder.results)["bars"]
    missed = [one for one in criteria if one["pass"] is False]
    lines = [f"{one['name']} is {one['value']:.3g}, wanted {one['direction']} {one['bar']:g}" for one in missed]
    met = "every measured acceptance criterion is met" if criteria else "there are none for this corpus"
    return dg.AssetCheckResult(
        passed=not missed,
        severity=dg.AssetCheckSeverity.ERROR if run.gates else dg.AssetCheckSeverity.WARN,
        description="; ".join(lines) if lines else met,
        metadata={"bars": table(criteria)},
    )


@dg.asset_check(asset=report, blocking=True)
def models_beat_gates(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """Every model beats noise on everything that was measured, and a still picture on the lips."""
    from evaluation.results.document import read_results
    from evaluation.results.gates import failures

    comparisons = read_results(run.folder.results)["gates"]
    lost = failures(comparisons)
    return dg.AssetCheckResult(
        passed=not lost,
        severity=dg.AssetCheckSeverity.ERROR if run.gates else dg.AssetCheckSeverity.WARN,
        description="; ".join(lost) if lost else f"all of {len(comparisons)} comparisons with the gates are won",
        metadata={"gates": table(comparisons)},
    )


def _summary(methods: dict) -> list[dict]:
    """The rows of the terminal's table, for Dagster's pages."""
    from evaluation.catalogue import columns_for

    names = (*(one.key for one in columns_for(methods, "summary")), "n")
    return [{"method": method, **{name: values.get(name) for name in names}} for method, values in methods.items()]
