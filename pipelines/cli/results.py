"""`privfedtalk evaluate`, `report` and `tables`: the results of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal.options import (
    FreshOption,
    JsonOption,
    MethodsOption,
    ProfileOption,
    ProfilesRunArgument,
    RunArgument,
    SetOption,
    carry_out,
    choose,
)
from pipelines.terminal.paths import writable_folder
from pipelines.terminal.text import console, print_json


def evaluate(
    run: ProfilesRunArgument = None,
    method: MethodsOption = None,
    profile: ProfileOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure every method and reference on held-out clips, then write results.json and the page.

    [bold]Examples[/bold]

        privfedtalk evaluate mine

        privfedtalk evaluate mine --fresh

        privfedtalk evaluate mine --method scaffold --method local
    """
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import EVALUATE, REPORT
    from pipelines.terminal.summary import print_results

    choice = choose(profile, run, settings, training__methods=method or None)
    try:
        carry_out([EVALUATE, REPORT], choice, not fresh, as_json)
    except FailedCheckError as error:
        print_results(choice.configuration.root, as_json, error)
        raise
    print_results(choice.configuration.root, as_json)


def report(
    run: ProfilesRunArgument = None,
    profile: ProfileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write results.json and the report page again, from what is measured already.

    [bold]Example[/bold]

        privfedtalk report mine
    """
    from common.folders import RunFolder
    from evaluation.report.gather import check_evaluated
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import REPORT
    from pipelines.terminal.summary import print_results

    choice = choose(profile, run, settings)
    folder = RunFolder(choice.configuration.root)
    if not folder.results.exists():
        check_evaluated(folder)
    try:
        carry_out([REPORT], choice, False, as_json)
    except FailedCheckError as error:
        if as_json:
            print_results(choice.configuration.root, as_json, error)
        raise
    if as_json:
        print_results(choice.configuration.root, as_json)
        return
    console.print(f"Open {folder.page}")


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
