"""`privfedtalk privacy inversion`: what of a client's face an update gives away, and what the sums do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.cli.privacy.attacks import asked
from pipelines.terminal import completion
from pipelines.terminal.options import JsonOption, RunArgument, choose
from pipelines.terminal.text import console, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def inversion(
    run: RunArgument,
    method: Annotated[
        str, typer.Option("--method", "-m", help="Whose adapter and updates.", autocompletion=completion.methods)
    ] = "privfedtalk",
    clients: Annotated[int, typer.Option(min=2, max=10**4, help="Clients whose own update is attacked.")] = 4,
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Steps of the attacker who knows the noise draws.")] = 80,
    as_json: JsonOption = False,
) -> None:
    """Try to see a client's face in its raw update, in the cohort's sum, and in the noisy sum that the server gets.

    Two attackers, one who knows everything of a window but its pictures and one who knows the public split alone, are
    set against the public mean face. Only clients who agreed to be trained on and to be generated are looked at.
    Figures and pictures go to RUN/attacks and into the privacy page.

    [bold]Examples[/bold]

        privfedtalk privacy inversion demo

        privfedtalk privacy inversion data/mine --method fedavg --clients 8 --steps 300 --json
    """
    from common.folders import INVERSION_SHEET, RunFolder
    from evaluation.attacks.inversion_figures import run_inversion
    from evaluation.attacks.inversion_run import InversionSettings
    from evaluation.report.privacy_page import write_privacy_reports

    configuration = choose(None, run).configuration
    folder = RunFolder(configuration.root)
    settings = InversionSettings(clients=clients, steps=steps)
    told = run_inversion(folder, method, asked(configuration), configuration.seed, settings)
    if as_json:
        print_json(told)
    else:
        _show(told)
        console.print(f"pictures: {folder.attack('inversion', method) / INVERSION_SHEET}")
    if (folder.privacy(method)).exists():
        (page,) = write_privacy_reports(folder, [method], folder.report / "privacy")
        if not as_json:
            console.print(f"page: {page}")


def _show(told: Mapping[str, Any]) -> None:
    from evaluation.report.inversion_card import interval

    networks = list(told["baseline"]["identity"])
    table = Table("attack", "sees", "PSNR over the mean face, dB", *(f"identity, {name}" for name in networks), "named")
    for leak in [told["baseline"], *told["leaks"]]:
        table.add_row(
            leak.get("row", "mean face"), leak["sees"], interval(leak["gain"], "+.1f"),
            *(interval(leak["identity"][name], ".2f") for name in networks),
            f"{leak['recognised']} of {len(told['clients'])}",
        )  # fmt: skip
    console.print(table)
    for sentence in told["sentences"]:
        console.print(f"- {sentence}")
