"""Commands on a run, whose first argument is the run; a former spelling is answered with the present one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from typer.core import TyperCommand

from common.errors import PrivFedTalkError
from pipelines.terminal.paths import folder_of_run

DEFAULT_RUN = "demo"


class RunCommand(TyperCommand):
    """A command whose first argument is RUN."""

    former_options: ClassVar[tuple[str, ...]] = ("--run",)
    """The options that named the run before."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # as the shell's completion parses
            self._refuse_former_spelling(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_former_spelling(self, ctx: Any, args: list[str]) -> None:
        typed = self._taken_apart(args)
        names = [str(parameter.name) for parameter in self.params if parameter.param_type_name == "argument"]
        if typed.former is not None:
            option, run = typed.former
            whole = len(typed.names) == len(names)  # RUN is among them already
            raise PrivFedTalkError(
                f"{option} is no option any more: the run is the first argument",
                self._spelled(ctx, typed.names if whole else [self._as_run(option, run), *typed.names], typed.options),
            )
        if len(names) == 2 and len(typed.names) == 1:
            [only], wanted = typed.names, [name.upper() for name in names]
            is_run = folder_of_run(only).is_dir()
            raise PrivFedTalkError(
                f"'{only}' is one name where the command takes {' and '.join(wanted)}",
                self._spelled(ctx, [only, wanted[1]] if is_run else [DEFAULT_RUN, only], typed.options),
            )

    def _as_run(self, option: str, value: str) -> str:
        return value

    def _spelled(self, ctx: Any, names: Sequence[str], options: Sequence[str]) -> str:
        """The command with these names and options, quoted for a shell."""
        path: list[str] = []
        while ctx.parent is not None:  # the first is `privfedtalk` by whatever name
            path.insert(0, str(ctx.info_name))
            ctx = ctx.parent
        like_options = any(name.startswith("-") for name in names)
        parts = [*options, "--", *names] if like_options else [*names, *options]
        return shlex.join(["privfedtalk", *path, *parts])

    def _taken_apart(self, args: Sequence[str]) -> _Typed:
        """What was typed, as the parser reads it: names by place, and options with their values."""
        with_value = {
            option
            for parameter in self.params
            if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
            for option in parameter.opts
        }
        typed, rest = _Typed(), list(args)
        while rest:
            word = rest.pop(0)
            option, equals, value = word.partition("=")
            if word == "--":
                typed.names += rest
                break
            if option in self.former_options and (equals or rest):
                typed.former = (option, value if equals else rest.pop(0))
            elif word[:2] in self.former_options and len(word) > 2 and not word.startswith("--"):
                typed.former = (word[:2], word[2:])  # -oFOLDER
            elif word in with_value and rest:
                typed.options += [word, rest.pop(0)]
            elif word.startswith("-") and word != "-":
                typed.options.append(word)
            else:
                typed.names.append(word)
        return typed


class PrepareCommand(RunCommand):
    """`prepare`, which took the run's folder as --out."""

    former_options = ("--run", "--out", "-o")

    def _as_run(self, option: str, value: str) -> str:
        """--out was always a path; a RUN without a slash is a name."""
        return value if option == "--run" or "/" in value else f"./{value}"


@dataclass
class _Typed:
    names: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    former: tuple[str, str] | None = None
    """The option that named the run, and the run."""
