"""Nightly evaluation: the newest model of every method on the same public clips, and checks for a decline."""

# No postponed annotations here: Dagster looks at the types of `context` and `config` itself.
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field

from assets.preparation.shards import shards
from assets.stage.code import code_version
from assets.stage.metadata import drawing, pictures, table
from assets.stage.partitions import every_partition
from assets.stage.run import Run
from assets.stage.transient import retried
from assets.training.backbone import ACCELERATOR, backbone, rulers, vae
from assets.training.federation import adapter
from evaluation.nightly.settings import NightlySettings

GROUP = "evaluation"


class NightConfig(dg.Config):
    """The night that the asset `night` measures."""

    night: str = Field("", description="YYYY-MM-DD; empty: today, in the time zone of the schedule")


@dg.asset(
    group_name=GROUP,
    kinds={"pytorch", "parquet"},
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
def night(config: NightConfig, run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Metrics of the newest model of every method on a fixed panel of public clips: a folder a night, and a history."""
    from evaluation.figures.charts import save
    from evaluation.nightly.figures import nights_plot
    from evaluation.nightly.measuring import measure_night
    from evaluation.nightly.nights import night_metrics, read_nights

    name = config.night or today(run.nightly)
    code = code_version(measure_night)
    measured = measure_night(run.folder, name, run.nightly, run.evaluation, run.training, run.seed, code)
    nights = read_nights(run.folder)
    plot = nights_plot(nights)
    save(plot, run.folder.nightly / "history.png")
    # One key for each figure: Dagster plots each over the materialisations.
    figures = {
        f"{method} {metric}": round(value, 5)
        for method, means in measured.means.items()
        for metric, value in means.items()
        if metric in night_metrics()
    }
    return dg.MaterializeResult(
        metadata={
            "night": measured.night,
            "people": measured.people,
            "clips": measured.clips,
            "history": drawing(plot),
            "metrics": table([{"method": method, **means} for method, means in measured.means.items()]),
            "models": table([{"method": method, "version": found} for method, found in measured.models.items()]),
            "frames": _frames(run, measured.night),
            "folder": dg.MetadataValue.path(run.folder.nightly / measured.night),
            **figures,
        },
        data_version=dg.DataVersion(f"{measured.panel}-{'-'.join(measured.models.values())}"),
        tags={"privfedtalk/night": measured.night},
    )


@dg.asset_check(asset=night, blocking=True)
def no_metric_worse(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """No metric of any method is significantly worse than in the night before (paired over people, Holm over methods).

    It warns if the panel is too small for any difference to be significant, because it could then never fail.
    """
    from evaluation.nightly.nights import smallest_p

    found = _compared(run, back=1)
    if found is None:
        return dg.AssetCheckResult(passed=True, description="the first night on this panel: nothing to compare with")
    last, before, rows = found
    worse = _worse(run, rows)
    least = smallest_p(last.people, len(last.means))
    powerless = not worse and least >= run.nightly.level
    if worse:
        description = f"worse than on {before.night}: " + "; ".join(change.sentence() for change in worse)
    elif powerless:
        description = (
            f"{last.people} people cannot show that a metric of {len(last.means)} methods got worse (p is at least "
            f"{least:.2g}): raise preparation.clients.public_validation_fraction and remove nightly/panel.json"
        )
    else:
        description = f"nothing is significantly worse than on {before.night}"
    return dg.AssetCheckResult(
        passed=not worse and not powerless,
        severity=dg.AssetCheckSeverity.WARN if powerless else dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={"compared with": before.night, "changes": table([_row(change) for change in rows])},
    )


@dg.asset_check(asset=night)
def no_slow_decline(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """No metric is significantly worse than `nightly.drift_nights` nights ago: a decline too slow for one night."""
    found = _compared(run, back=run.nightly.drift_nights)
    if found is None:
        return dg.AssetCheckResult(passed=True, description="no earlier night on this panel")
    _, before, rows = found
    worse = _worse(run, rows)
    declines = "; ".join(change.sentence() for change in worse)
    return dg.AssetCheckResult(
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"declined since {before.night}: {declines}" if worse else f"nothing declined since {before.night}",
        metadata={"compared with": before.night, "changes": table([_row(change) for change in rows])},
    )


def today(settings: NightlySettings) -> str:
    """Today's date in the time zone of the schedule, YYYY-MM-DD."""
    return datetime.now(ZoneInfo(settings.time_zone)).strftime("%Y-%m-%d")


def _compared(run: Run, back: int) -> Any:
    """The last night, the night it is compared with, and the changes between them; None if there is no such night."""
    from evaluation.nightly.nights import changes, comparable, read_nights

    pair = comparable(read_nights(run.folder), back)
    return pair and (*pair, changes(run.folder, *pair, run.seed))


def _worse(run: Run, rows: list) -> list:
    from evaluation.nightly.nights import significantly_worse

    return significantly_worse(rows, run.nightly.level)


def _row(change: Any) -> dict[str, Any]:
    return {
        "method": change.method,
        "metric": change.metric,
        "before": change.before,
        "now": change.now,
        "people": change.comparison.clients,
        "p (Holm)": change.comparison.p_holm,
        "worse": change.worse,
    }


def _frames(run: Run, name: str) -> dg.MarkdownMetadataValue:
    """Frames of each method's first clip of that night, side by side."""
    from preparation.media.previews import moments

    videos: dict[str, Path] = {}
    for path in sorted((run.folder.nightly / name).glob("*/videos/*.mp4")):
        videos.setdefault(path.parents[1].name, path)
    return pictures([frame for path in videos.values() for frame in moments(path, range(5, 20, 7))])
