"""`privfedtalk config`: every setting with its value."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.shared import ProfileOption, SetOption


def config(
    profile: ProfileOption = "demo",
    set_: SetOption = None,
    only: Annotated[str, typer.Argument(help="Only keys that contain this.", show_default=False)] = "",
) -> None:
    """List every setting as key=value, as --set takes it.

    [bold]Examples[/bold]

        privfedtalk config federation

        privfedtalk config --profile paper privacy
    """
    from pipelines.configuration import load
    from pipelines.settings_reader import flatten

    for key, value in flatten(load(profile, set_ or []).model_dump(mode="json")):
        if only in key:
            typer.echo(f"{key}={value}")
