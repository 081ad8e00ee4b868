"""`privfedtalk privacy inversion`: how much of a client's face an update and the sums give away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.cli.adapter import MethodOption
from pipelines.cli.privacy.attacks import training_settings
from pipelines.terminal.options import JsonOption, RunArgument, choose
from pipelines.terminal.text import console, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def inversion(
    run: RunArgument,
    method: MethodOption = None,
    clients: Annotated[int, typer.Option(min=2, max=10**4, help="Clients whose own update is attacked.")] = 4,
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Steps of the attacker who knows the noise draws.")] = 80,
    as_json: JsonOption = False,
) -> None:
    """Try to see a client's face in its raw update, in the cohort's sum, and in the noisy sum that the server gets.

    Two attackers are compared with the public mean face: one knows everything of a window but its pictures, the other
    only the public split. Only clients who agreed to training and to generation are attacked.
    Figures and pictures go to RUN/attacks and into the privacy page.

    [bold]Examples[/bold]

        privfedtalk privacy inversion demo

        privfedtalk privacy inversion data/mine --method fedavg --clients 8 --steps 300 --json
    """
    from common.folders import INVERSION_SHEET, RunFolder
    from evaluation.attacks.inversion_figures import run_inversion
    from evaluation.attacks.inversion_run import InversionSettings
    from evaluation.report.privacy_page import write_privacy_reports
    from training.generation.talker import method_of

    configuration = choose(None, run).configuration
    folder = RunFolder(configuration.root)
    method = method_of(folder, method)
    settings = InversionSettings(clients=clients, steps=steps)
    report = run_inversion(folder, method, training_settings(configuration), configuration.seed, settings)
    if as_json:
        print_json(report)
    else:
        _show(report)
        console.print(f"pictures: {folder.attack('inversion', method) / INVERSION_SHEET}")
    if (folder.privacy(method)).exists():
        (page,) = write_privacy_reports(folder, [method], folder.report / "privacy")
        if not as_json:
            console.print(f"page: {page}")


def _show(report: Mapping[str, Any]) -> None:
    from evaluation.report.inversion_card import interval

    networks = list(report["baseline"]["identity"])
    table = Table("attack", "sees", "PSNR over the mean face, dB", *(f"identity, {name}" for name in networks), "named")
    for leak in [report["baseline"], *report["leaks"]]:
        table.add_row(
            leak.get("row", "mean face"), leak["sees"], interval(leak["gain"], "+.1f"),
            *(interval(leak["identity"][name], ".2f") for name in networks),
            f"{leak['recognised']} of {len(report['clients'])}",
        )  # fmt: skip
    console.print(table)
    for sentence in report["sentences"]:
        console.print(f"- {sentence}")
