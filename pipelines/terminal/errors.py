"""Errors as people want them: what is wrong and what mends it. Only what nobody foresaw has a traceback, once."""

from __future__ import annotations

import errno
import shlex
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from common.errors import PrivFedTalkError
from pipelines.errors import FailedCheckError, break_circles
from pipelines.terminal.text import (
    aside,
    owes_json,
    print_json,
    replace_what_cannot_be_shown,
    show_own_warnings_alone,
)

GATE, UNFORESEEN, MENDABLE, INTERRUPTED = 1, 1, 2, 130
REPORT_IT = (
    "report it under Issues on the repository's page, with the command and the lines above; take names of people out"
)


class ReadableErrors(TyperGroup):
    """The top command: turns errors and Ctrl-C into a message and an exit code, and under --json into a document too,
    unless the command has printed its own."""

    def main(self, *args: Any, **options: Any) -> Any:
        replace_what_cannot_be_shown()
        show_own_warnings_alone()
        return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        owes_json.set("--json" in ctx.args)  # also where a wrong option ends the command before it has read its own
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            _document({"error": error.format_message(), "remedy": "see the command's --help"})
            raise
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as error:
            again = shlex.join(["privfedtalk", *(item for item in sys.argv[1:] if item != "--fresh")])
            _say(f"\nInterrupted. What is finished is kept; go on with: {again}", "yellow")
            _document({"error": "interrupted; what is finished is kept", "remedy": again})
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # who read the output has seen enough
            break_circles(error)
            told, code = _told(error)
            _say(f"error: {told['error']}", "bold red")
            _say(f"remedy: {told['remedy']}", "default")
            _document(told)
            raise typer.Exit(code) from error


def failure(error: PrivFedTalkError) -> dict[str, str]:
    """An error as a document has it."""
    return {"error": error.reason, "remedy": error.remedy}


def _told(error: Exception) -> tuple[dict[str, str], int]:
    """An error as a document has it, and the exit code; the traceback of what nobody foresaw is printed."""
    if isinstance(error, PrivFedTalkError):
        return failure(error), GATE if isinstance(error, FailedCheckError) else MENDABLE
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"{error.filename}: {error.strerror or type(error).__name__}"
        remedy = "name another, or mend what stands in the way: that it exists, is of the right kind, and may be used"
        return {"error": reason, "remedy": remedy}, MENDABLE
    if isinstance(error, MemoryError):
        return {"error": "the memory of this machine is full", "remedy": "end what else runs, or choose less"}, MENDABLE
    aside.print("".join(traceback.format_exception(error)).rstrip())
    return {"error": f"unforeseen, {type(error).__name__}: {error}", "remedy": REPORT_IT}, UNFORESEEN


def _document(failed: dict[str, str]) -> None:
    if owes_json.get():
        print_json(failed)


def _say(text: str, style: str) -> None:
    aside.print(text, style=style)
