"""`privfedtalk config` and `privfedtalk plan`: a profile's settings, and a forecast of its run."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.terminal.options import JsonOption, ProfileOption, SetOption, choose
from pipelines.terminal.text import console, print_json, styled
from training.privacy.digits import three_digits

if TYPE_CHECKING:
    from pipelines.configuration.settings import Setting
    from pipelines.plan import Plan

WIDTH = 80
"""Most columns of a description; a value is never broken, so that it can be copied."""
INDENT = "    "


def config(
    profile: ProfileOption = "demo",
    settings: SetOption = None,
    only: Annotated[str, typer.Argument(help="Only keys that contain this.", show_default=False)] = "",
    as_json: JsonOption = False,
) -> None:
    """List every setting as key=value, as --set takes it, with its meaning, its unit, and its default
    if the value differs; secrets and names of people are hidden.

    [bold]Examples[/bold]

        privfedtalk config federation

        privfedtalk config --profile paper privacy
    """
    from pipelines.configuration.settings import list_settings

    found = [setting for setting in list_settings(choose(profile, None, settings).configuration) if only in setting.key]
    if as_json:
        print_json({setting.key: _without_key(setting) for setting in found})
        return
    for setting in found:
        typer.echo(setting.assignment)
        for line in _explained(setting):
            typer.echo(INDENT + line)


def _without_key(setting: Setting) -> dict[str, Any]:
    return {name: value for name, value in vars(setting).items() if name != "key"}


def _explained(setting: Setting) -> list[str]:
    """The lines below a setting: its description, then its unit and its default."""
    facts = [f"in {setting.unit}"] if setting.unit else []
    if setting.value != setting.default:
        facts.append(f"default: {json.dumps(setting.default)}")
    parts = [setting.description, "; ".join(facts)]
    return [line for part in parts for line in textwrap.wrap(part, WIDTH - len(INDENT))]


def plan(
    profile: ProfileOption = "paper",
    settings: SetOption = None,
    clients: Annotated[
        int | None,
        typer.Option(
            "--clients", "-n", min=1, max=10**12, help="N.", show_default="the corpus's, or LRS3's as published"
        ),
    ] = None,
    timed: Annotated[bool, typer.Option("--time/--no-time", help="Time a local step on this machine.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Load a profile, check all that can be checked, and forecast its run: stages, clients, ε, bytes, time.

    Nothing is trained and nothing is written. What is missing (a corpus, a network) is listed with its remedy.

    [bold]Examples[/bold]

        privfedtalk plan --profile paper

        privfedtalk plan --profile paper --clients 4004 --set training.federation.sampling=poisson
    """
    from pipelines.plan import make_plan

    made = make_plan(choose(profile, None, settings).configuration, clients, timed)
    if as_json:
        print_json(made.to_json())
    else:
        _show(made)


def _show(made: Plan) -> None:
    from evaluation.report.words import size

    console.print(styled((made.run, "bold"), f": {made.corpus}; {made.clients:,} clients ({made.clients_from})"))
    stages = Table("stage", "partitions")
    for name, partitions in made.stages:
        stages.add_row(name, partitions)
    console.print(stages)
    if made.backbone_parameters is not None:
        console.print(
            f"Backbone {made.backbone_parameters:,} parameters, adapter {made.adapter_parameters:,} "
            "(built at that size, weights random)"
        )
    traffic, spent = ("up, a client and round", "down", "in all"), ("ε released", "ε server", "δ")
    table = Table("method", "rounds", "local steps", *traffic, *spent, "hours")
    for one in made.methods:
        hours = made.hours.get(one["method"])
        table.add_row(
            one["method"],
            f"{one['rounds']:,}",
            f"{one['steps']:,}",
            *(size(one[name]) if one[name] else "-" for name in ("bytes_up", "bytes_down", "bytes_total")),
            *(three_digits(one[name], absent="-") for name in ("epsilon_release", "epsilon_server", "delta")),
            "-" if hours is None else f"{hours:,.1f}",
        )
    if made.methods:
        console.print(table)
    if made.seconds_a_window is not None:
        console.print(
            f"Hours are of local steps alone, {made.seconds_a_window:.3g} s a window on one {made.device} worker here; "
            f"pretraining, whose steps cost more, takes at least {made.pretraining_hours:,.1f}. "
            "Score, validation and evaluation come on top."
        )
    for lack in made.lacks:
        missing = ("missing", "red" if lack.fatal else "yellow")
        console.print(styled(missing, f": {lack.what}\n  remedy: {lack.remedy}"))
    console.print("Nothing that the run needs is missing." if made.ready else "It cannot run here yet: see above.")
