"""`privfedtalk tables`: a run's tables and figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal.options import JsonOption, RunArgument, choose
from pipelines.terminal.paths import writable_folder
from pipelines.terminal.text import console, print_json


def tables(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write.", show_default="RUN/tables and RUN/figures")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="tables or figures.", show_default="both", metavar="KIND")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the paper's tables (CSV, Markdown, LaTeX) and figures (PNG, SVG, mp4) from what is measured already.

    [bold]Examples[/bold]

        privfedtalk tables demo

        privfedtalk tables data/mine --only tables --out /tmp/tables
    """
    from common.folders import RunFolder
    from evaluation.report.files import write_figures, write_tables
    from evaluation.report.gather import NOT_SHOWN

    if only not in (None, "tables", "figures"):
        raise typer.BadParameter(f"{only} is neither tables nor figures", param_hint="--only")
    configuration = choose(None, run).configuration
    folder = RunFolder(configuration.root)
    files: list[Path] = []
    if out is not None:
        out = writable_folder(out)
    if only != "figures":
        files += write_tables(folder, out or folder.root / "tables")
    if only != "tables":
        files += write_figures(folder, out or folder.root / "figures", configuration.evaluation, NOT_SHOWN)
    if as_json:
        print_json({"run": folder.root, "files": files})
        return
    for path in files:
        console.print(str(path))
