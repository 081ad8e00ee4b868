"""The paper's tables and figures as files, when asked for."""

from __future__ import annotations

import dagster as dg

from assets.evaluation.reports import results
from assets.stage.metadata import picture
from assets.stage.run import Run
from assets.stage.transient import retried

GROUP = "reports"


@dg.asset(group_name=GROUP, kinds={"csv", "latex"}, deps=[results])
@retried
def tables(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Tables 1 and 2, communication, clients, figure 3, qualitative grids and videos, in `tables/` and `figures/`."""
    from evaluation.report.files import write_figures, write_tables
    from evaluation.report.gather import NOT_SHOWN

    folder = run.folder
    written = write_tables(folder, folder.root / "tables")
    drawn = write_figures(folder, folder.root / "figures", run.evaluation, NOT_SHOWN)
    table = (folder.root / "tables" / "table1.md").read_text(encoding="utf-8")
    charts = {path.stem: picture(path) for path in drawn if path.suffix == ".png" and "qualitative" not in path.stem}
    return dg.MaterializeResult(
        metadata={"table 1": dg.MetadataValue.md(table), **charts, "files": [str(path) for path in (*written, *drawn)]}
    )
