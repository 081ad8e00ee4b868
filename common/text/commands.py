"""Commands that messages show: quoted for a shell, and written so that no name in them is taken for an option."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


def command(words: str, *names: str, run: Path | str | None = None, **options: str | bool | Sequence[str]) -> str:
    """`privfedtalk WORDS RUN NAMES --OPTION VALUE`, to be copied as it is.

    names: positional arguments; run: the run's folder, or its name as it was typed; options: `_` stands for `-`, True
    means an option without a value, several values mean an option given several times.
    """
    positional = [*([] if run is None else [str(run)]), *names]
    typed = [part for option, value in options.items() for part in _option(option.replace("_", "-"), value)]
    like_options = any(name.startswith("-") for name in positional)
    parts = [*typed, "--", *positional] if like_options else [*positional, *typed]
    return shlex.join(["privfedtalk", *words.split(), *parts])


def _option(name: str, value: str | bool | Sequence[str]) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}"] * value
    if isinstance(value, str):
        return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
    return [part for each in value for part in _option(name, each)]
