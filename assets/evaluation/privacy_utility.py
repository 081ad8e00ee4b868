"""What privacy costs: noise multipliers and clipping norms against loss, identity and lips."""

from __future__ import annotations

import dagster as dg

from assets.stage.metadata import picture
from assets.stage.run import Run
from assets.stage.transient import retried
from assets.training.backbone import ACCELERATOR
from evaluation.experiments.study.settings import PrivacyUtilitySettings

GROUP = "studies"


@dg.asset(group_name=GROUP, kinds={"pytorch", "csv"}, pool=ACCELERATOR)
@retried
def privacy_utility(
    run: dg.ResourceParam[Run], sweep: dg.ResourceParam[PrivacyUtilitySettings]
) -> dg.MaterializeResult:
    """A row a setting with both ε and its figures, and the plot, in `data/privacy_utility`.

    It needs no run of its own: worlds and cells are the study's, beside the runs in `data/study`, and are kept.
    """
    from evaluation.experiments.study import privacy_utility as study

    data = run.folder.root.parent
    failed = study.run(data / "study", sweep)
    if failed:
        raise dg.Failure("; ".join(failed))
    found = study.rows(data / "study", sweep)
    written = study.write(data / "privacy_utility", found)
    plot = next(path for path in written if path.suffix == ".png")
    return dg.MaterializeResult(
        metadata={"table": dg.MetadataValue.md(study.markdown(found)), "plot": picture(plot), "rows": len(found)}
    )
