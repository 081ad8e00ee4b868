"""Errors as people want them: what is wrong and what mends it, without a traceback."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click
import typer
from rich.text import Text
from typer.core import TyperGroup

from pipelines.cli.shared import aside, owes_json, print_json
from pipelines.errors import FailedCheckError
from preparation.errors import PrivFedTalkError

GATE, MENDABLE, INTERRUPTED = 1, 2, 130


class ReadableErrors(TyperGroup):
    """The top command: turns the project's own errors and Ctrl-C into a message and an exit code, and under --json
    into a document too, unless the command has printed its own."""

    def invoke(self, ctx: click.Context) -> Any:
        owes_json.set(False)
        try:
            return super().invoke(ctx)
        except PrivFedTalkError as error:
            _say(f"error: {error.reason}", "bold red")
            _say(f"remedy: {error.remedy}", "default")
            _document(failure(error))
            raise typer.Exit(GATE if isinstance(error, FailedCheckError) else MENDABLE) from error
        except KeyboardInterrupt as error:
            again = shlex.join(["privfedtalk", *(item for item in sys.argv[1:] if item != "--fresh")])
            _say(f"\nInterrupted. What is finished is kept; go on with: {again}", "yellow")
            _document({"error": "interrupted; what is finished is kept", "remedy": again})
            raise typer.Exit(INTERRUPTED) from error


def failure(error: PrivFedTalkError) -> dict[str, str]:
    """An error as a document has it."""
    return {"error": error.reason, "remedy": error.remedy}


def _document(failed: dict[str, str]) -> None:
    if owes_json.get():
        print_json(failed)


def _say(text: str, style: str) -> None:
    aside.print(Text(text, style=style))
