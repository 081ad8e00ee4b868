"""What the commands have in common: their options, and how options become a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer.core import TyperGroup

if TYPE_CHECKING:
    from pipelines.configuration import Configuration

console = Console(highlight=False, soft_wrap=True)

ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="demo, small, paper, or the path of a YAML file.",
        show_default="the run's own, else demo",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting, e.g. training.adapter.rank=4."),
]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="NAME|FOLDER", help="The run: a name in data/, or its folder.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Processes that prepare clips.", show_default="one a core")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Do everything anew instead of keeping what is done.")]


def new_app(group: type[TyperGroup], help_text: str) -> typer.Typer:
    return typer.Typer(
        cls=group, help=help_text, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_show_locals=False
    )


@dataclass(frozen=True)
class Choice:
    """A profile with overrides: what Dagster is told, so that its runs can be repeated from there."""

    profile: str
    overrides: list[str]
    configuration: Configuration


def choose(
    profile: str | None,
    run: str | None = None,
    settings: list[str] | None = None,
    **named: object,
) -> Choice:
    """Read the configuration that the options mean.

    Without a profile, a run that exists keeps the configuration it was made with. `named` are overrides by
    key (`corpus__kind` for `corpus.kind`), None meaning not given; what was typed with --set wins over them.
    """
    from pipelines.configuration import PROJECT, load, remembered

    overrides = [f"{key.replace('__', '.')}={value}" for key, value in named.items() if value is not None]
    if run is not None:
        folder = Path(run).expanduser().resolve() if "/" in run else PROJECT / "data" / run
        overrides = [f"data={folder.parent}", f"run={folder.name}", *overrides]
        if profile is None and remembered(folder).exists():
            profile = str(remembered(folder))
    overrides += settings or []
    profile = profile or "demo"
    return Choice(profile, overrides, load(profile, overrides))
