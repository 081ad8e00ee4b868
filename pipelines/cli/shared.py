"""What the commands have in common: their options, and how options become a configuration."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from pipelines.cli import completion

if TYPE_CHECKING:
    from pipelines.configuration import Configuration

console = Console(highlight=False, soft_wrap=True)
aside = Console(stderr=True, highlight=False, soft_wrap=True)
"""For what is no result: progress, warnings."""

owes_json = ContextVar("owes_json", default=False)
"""Whether a document is asked for and not printed yet."""


def _note(chosen: bool) -> bool:
    owes_json.set(chosen)
    return chosen


ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="demo, small, paper, sd15, or the path of a YAML file.",
        autocompletion=completion.profiles,
        show_default="the run's own, else demo",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting, e.g. training.adapter.rank=4."),
]
_RUN = typer.Option(
    "--run", metavar="NAME|FOLDER", help="The run: a name in data/, or its folder.", autocompletion=completion.runs
)
RunOption = Annotated[str | None, _RUN]
DemoOption = Annotated[str, _RUN]
"""Of commands that ask a run which is there; its default is the demo's."""
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A name in data/, or the run's folder.", autocompletion=completion.runs),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Processes that prepare clips.", show_default="one a core")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Do everything anew instead of keeping what is done.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.", callback=_note)]


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


def carry_out(jobs: Sequence[str], choice: Choice, keep: bool, as_json: bool) -> None:
    """Run jobs. Under --json whatever a library prints meanwhile goes to standard error."""
    from pipelines.runner import run_jobs

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        run_jobs(jobs, choice.profile, choice.overrides, keep=keep)


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """The one document of a command under --json; a NaN in it is an error, not invalid JSON."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False, default=os.fspath))
    owes_json.set(False)
