"""The commands' output: foreign text stays plain text, and a character that the terminal lacks never ends a command.

Names of clients, cards, files and messages of libraries reach the terminal. On these consoles nothing in them is markup
or an emoji's code, and nothing moves the cursor or turns the direction of what follows; style comes from `styled` and
from `style=` alone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from common.text.foreign import visible

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("common", "preparation", "training", "evaluation", "assets", "pipelines")


owes_json = threading.Event()
"""Whether --json was given and the document is not printed yet; every thread of the process sees the same."""


def owe_json(owed: bool) -> None:
    """Note whether the command is to print a JSON document."""
    (owes_json.set if owed else owes_json.clear)()


class PlainConsole(Console):
    """Every string, a table's cell too, is shown as it is written, in characters that show something."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


console = PlainConsole(highlight=False, soft_wrap=True, markup=False, emoji=False)
aside = PlainConsole(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
"""Standard error, for progress and warnings."""


def styled(*parts: str | tuple[str, str]) -> Text:
    """Plain parts and (part, style) as one line."""
    return Text.assemble(*(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts))


def warn(what: str) -> None:
    """A warning on standard error."""
    aside.print(f"warning: {what}", style="yellow")


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """The one document of a command under --json; a NaN in it is an error, not invalid JSON."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False, default=os.fspath))
    owes_json.clear()


def show_own_warnings_alone() -> None:
    """From here on show only warnings that this project gives; `python -W` shows those of libraries too.

    Those are about arrays of one item and calls that will be spelt otherwise one day: nothing that a user could mend.
    """
    if not sys.warnoptions:
        warnings.showwarning = _show_own


def _show_own(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
    path = Path(filename)
    if path.is_relative_to(PROJECT) and path.relative_to(PROJECT).parts[0] in PACKAGES:
        warn(str(message))


def replace_what_cannot_be_shown() -> None:
    """From here on print a question mark for what cannot be encoded: ε in Latin-1, a file name that is no text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
