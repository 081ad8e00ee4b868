"""Errors for people: what is wrong and what mends it. Only an unforeseen error has a traceback, once."""

from __future__ import annotations

import errno
import shlex
import sys
import threading
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from common.errors import INTERRUPTED, PrivFedTalkError
from pipelines.errors import FailedCheckError, break_circles
from pipelines.terminal.interruption import Watcher, end_children, watched
from pipelines.terminal.text import (
    aside,
    owe_json,
    owes_json,
    print_json,
    replace_what_cannot_be_shown,
    show_own_warnings_alone,
)

GATE, UNFORESEEN, MENDABLE = 1, 1, 2
_said = threading.Event()
REPORT_IT = (
    "report it under Issues on the repository's page, with the command and the lines above; take names of people out"
)


class ReadableErrors(TyperGroup):
    """The top command: turns errors and Ctrl-C into a message and an exit code, and under --json into a document too,
    unless the command has printed its own."""

    _watcher: Watcher | None = None

    def main(self, *args: Any, **options: Any) -> Any:
        replace_what_cannot_be_shown()
        show_own_warnings_alone()
        _said.clear()
        with watched(_last_words) as self._watcher:
            return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        # Set before parsing: a wrong option may end the command before it has read its own --json.
        owe_json("--json" in ctx.args)
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            _print_document({"error": error.format_message(), "remedy": "see the command's --help"})
            raise
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as error:
            self._interrupted(error)
        except Exception as error:
            if self._watcher and self._watcher.asked.is_set() and not isinstance(error, PrivFedTalkError):
                self._interrupted(error)  # a library turned the interruption into another error
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of the output has closed it
            break_circles(error)
            document, code = _describe(error)
            _print(f"error: {document['error']}", "bold red")
            _print(f"remedy: {document['remedy']}", "default")
            _print_document(document)
            raise typer.Exit(code) from error

    def _interrupted(self, error: BaseException) -> NoReturn:
        if self._watcher and self._watcher.asked.is_set():
            end_children()
        _say_interrupted()
        raise typer.Exit(INTERRUPTED) from error


def _last_words() -> None:
    """Say in the thread that ends the process that the command was interrupted, unless the command has said so."""
    if not _said.is_set():
        sys.stdout = sys.__stdout__  # a library's output is turned aside while a command with --json works
        _say_interrupted()


def _say_interrupted() -> None:
    _said.set()
    again = shlex.join(["privfedtalk", *(item for item in sys.argv[1:] if item != "--fresh")])
    _print(f"\nInterrupted. What is finished is kept; go on with: {again}", "yellow")
    _print_document({"error": "interrupted; what is finished is kept", "remedy": again})


def failure(error: PrivFedTalkError) -> dict[str, str]:
    """The JSON document of an error."""
    return {"error": error.reason, "remedy": error.remedy}


def _describe(error: Exception) -> tuple[dict[str, str], int]:
    """An error's JSON document and exit code; prints the traceback if the error was unforeseen."""
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


def _print_document(failed: dict[str, str]) -> None:
    if owes_json.is_set():
        print_json(failed)


def _print(text: str, style: str) -> None:
    aside.print(text, style=style)
