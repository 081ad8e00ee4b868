"""Commands that messages tell people to give: quoted for a shell, and no name in them is taken for an option."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(words: str, *names: str, run: Path | str | None = None, **options: str) -> str:
    """`privfedtalk WORDS NAMES --run RUN --OPTION VALUE`, to be copied as it is.

    names: what is given by place; run: the run's folder, or its name as it was typed; options: with `_` for `-`.
    """
    given = ({} if run is None else {"run": str(run)}) | options
    typed = [part for option, value in given.items() for part in _option(option.replace("_", "-"), value)]
    like_options = any(name.startswith("-") for name in names)
    parts = [*typed, "--", *names] if like_options else [*names, *typed]
    return shlex.join(["privfedtalk", *words.split(), *parts])


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
