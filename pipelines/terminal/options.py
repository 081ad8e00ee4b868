"""What the commands have in common: their options, and how options become a configuration."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines.terminal import completion
from pipelines.terminal.paths import folder_of_run, full_path
from pipelines.terminal.text import owe_json

if TYPE_CHECKING:
    from pipelines.configuration.tree import Configuration


def _note(chosen: bool) -> bool:
    owe_json(chosen)
    return chosen


LARGEST_SEED = 2**63 - 1
"""torch's seeds have 64 bits."""


ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="demo, faces, small, paper, sd15, or the path of a YAML file.",
        autocompletion=completion.profiles,
        show_default="the run's own, else demo",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting, e.g. training.adapter.rank=4."),
]
_RUN: Any = {"metavar": "RUN", "help": "The run: a name in data/, or its folder.", "autocompletion": completion.runs}
RunArgument = Annotated[str, typer.Argument(**_RUN)]
"""For commands on an existing run. RUN is the first argument, as everywhere: their class is `RunCommand`."""
ProfilesRunArgument = Annotated[str | None, typer.Argument(**_RUN, show_default="the profile's own: demo")]
"""For commands that may begin a run; None is the run that the profile names."""
OptionalRunArgument = Annotated[str | None, typer.Argument(**_RUN, show_default=False)]
"""For a command that also works without a run."""
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of everything that is drawn.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        min=1,
        max=1024,
        help="Processes that prepare clips or train networks, at most.",
        show_default="one a core",
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        help="Only this method; give it again for more.",
        show_default="training.methods",
        autocompletion=completion.methods,
    ),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Do everything anew instead of keeping what is done.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.", callback=_note)]


NULL = object()
"""For `choose`: the value null, where None says that nothing was given."""


def new_app(group: type[TyperGroup], help_text: str) -> typer.Typer:
    return typer.Typer(
        cls=group, help=help_text, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_show_locals=False
    )


@dataclass(frozen=True)
class Choice:
    """A profile with overrides, from which Dagster can repeat its runs, and the configuration that they give."""

    profile: str
    overrides: dict[str, Any]
    configuration: Configuration


def choose(
    profile: str | None,
    run: str | None = None,
    settings: list[str] | None = None,
    **named: object,
) -> Choice:
    """Read the configuration that the options mean.

    Without a profile, a run that exists keeps the configuration it was made with. `named` are overrides by
    key (`corpus__kind` for `corpus.kind`), None meaning not given and NULL null; what was typed with --set wins.
    """
    from pipelines.configuration.reader import combine
    from pipelines.configuration.tree import PROFILES, configure, profile_path, read_overrides, remembered

    if run is not None:
        folder = folder_of_run(run)
        named = {"data": folder.parent, "run": folder.name, **named}
        if profile is None and remembered(folder).exists():
            profile = str(remembered(folder))
    chosen = {key.replace("__", "."): _plain(value) for key, value in named.items() if value is not None}
    overrides = combine(chosen, read_overrides(settings or []))
    profile = profile or "demo"
    path = profile_path(profile)
    if path.parent != PROFILES:
        profile = str(full_path(path))  # jobs run in the project's folder
    return Choice(profile, overrides, configure(profile, overrides))


def _plain(value: object) -> Any:
    """A value as Dagster stores it: paths become text."""
    return None if value is NULL else json.loads(json.dumps(value, default=os.fspath))


def carry_out(jobs: Sequence[str], choice: Choice, keep: bool, as_json: bool, consent: Path | None = None) -> None:
    """Run jobs. Under --json whatever a library prints meanwhile goes to standard error. `consent`: see `run_jobs`."""
    from pipelines.runner import run_jobs

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        run_jobs(jobs, choice.profile, choice.overrides, keep=keep, consent=consent and full_path(consent))
