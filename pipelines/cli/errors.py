"""Errors as people want them: what is wrong and what mends it, without a traceback."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click
import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from pipelines.errors import FailedCheckError
from preparation.errors import PrivFedTalkError

GATE, MENDABLE, INTERRUPTED = 1, 2, 130


class ReadableErrors(TyperGroup):
    """The top command: turns the project's own errors and Ctrl-C into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PrivFedTalkError as error:
            _say(f"error: {error.reason}", "bold red")
            _say(f"remedy: {error.remedy}", "default")
            raise typer.Exit(GATE if isinstance(error, FailedCheckError) else MENDABLE) from error
        except KeyboardInterrupt as error:
            again = shlex.join(["privfedtalk", *(item for item in sys.argv[1:] if item != "--fresh")])
            _say(f"\nInterrupted. What is finished is kept; go on with: {again}", "yellow")
            raise typer.Exit(INTERRUPTED) from error


def _say(text: str, style: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style=style))
