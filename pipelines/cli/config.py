"""`privfedtalk config`: every setting with its value."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.terminal.options import JsonOption, ProfileOption, SetOption
from pipelines.terminal.text import print_json


def config(
    profile: ProfileOption = "demo",
    set_: SetOption = None,
    only: Annotated[str, typer.Argument(help="Only keys that contain this.", show_default=False)] = "",
    as_json: JsonOption = False,
) -> None:
    """List every setting as key=value, as --set takes it; secrets and names of people
    are hidden.

    [bold]Examples[/bold]

        privfedtalk config federation

        privfedtalk config --profile paper privacy
    """
    from pipelines.configuration.reader import flatten
    from pipelines.configuration.tree import load

    settings = flatten(load(profile, set_ or []).shown())
    found = {key: value for key, value in settings if only in key}
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        typer.echo(f"{key}={value}")
