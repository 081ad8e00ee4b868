"""A run is the first argument of every command on it; every other spelling is answered with that one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.configuration import tree
from pipelines.terminal.run_argument import RunCommand

ON_A_RUN = {
    "demo", "prepare", "clients", "train", "evaluate", "report", "generate", "tables", "adapter inspect",
    "adapter export", "adapter import", "consent show", "consent grant", "consent revoke", "privacy audit",
    "privacy membership", "privacy inversion", "privacy report",
}  # fmt: skip
REQUIRED = {
    "tables", "adapter import", "consent grant", "consent revoke", "privacy membership", "privacy inversion",
    "privacy report",
}  # fmt: skip


def commands() -> Iterator[tuple[str, Any]]:
    waiting = [("", get_command(app))]
    while waiting:
        name, command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += [(f"{name} {below}".strip(), found) for below, found in command.commands.items()]
        else:
            yield name, command


COMMANDS = dict(commands())


def test_the_commands_on_a_run_are_these() -> None:
    assert {name for name, command in COMMANDS.items() if isinstance(command, RunCommand)} == ON_A_RUN


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_run_is_the_first_argument_and_no_option(name: str) -> None:
    command = COMMANDS[name]
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    assert all("--run" not in parameter.opts for parameter in command.params)
    if name in ON_A_RUN:
        assert (arguments[0].name, arguments[0].required) == ("run", name in REQUIRED)
        shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "100"}).stdout
        assert f"privfedtalk {name} " in shown and "--run" not in shown
        examples = [shlex.split(line) for line in shown.splitlines() if line.strip(" │").startswith("privfedtalk ")]
        assert examples and all("RUN" not in words for words in examples)
    else:
        assert "run" not in [argument.name for argument in arguments]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What lies in the project's own `data/` is no business of these tests; `mine` is a run here."""
    monkeypatch.setattr(tree, "PROJECT", tmp_path)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    return tmp_path


def answer_to(typed: str) -> str:
    result = CliRunner().invoke(app, shlex.split(typed)[1:])
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr, result.output
    return result.stderr.partition("remedy: ")[2].rstrip("\n")


FORMER = [
    ("privfedtalk train --run mine", "privfedtalk train mine"),
    ("privfedtalk train --run=mine --method scaffold", "privfedtalk train mine --method scaffold"),
    ("privfedtalk train -m scaffold -mlocal --run mine --fresh", "privfedtalk train mine -m scaffold -mlocal --fresh"),
    ("privfedtalk train --run -FOC --set 'a=b c'", "privfedtalk train --set 'a=b c' -- -FOC"),
    ("privfedtalk train --set --run=x --run y", "privfedtalk train y --set --run=x"),
    ("privfedtalk demo --profile small --run try --seed 3", "privfedtalk demo try --profile small --seed 3"),
    ("privfedtalk clients --run 'my run'", "privfedtalk clients 'my run'"),
    ("privfedtalk evaluate --run data/mine", "privfedtalk evaluate data/mine"),
    ("privfedtalk report --run mine", "privfedtalk report mine"),
    ("privfedtalk tables --run mine --only tables", "privfedtalk tables mine --only tables"),
    ("privfedtalk privacy report --run mine", "privfedtalk privacy report mine"),
    ("privfedtalk privacy audit --run mine", "privfedtalk privacy audit mine"),
    ("privfedtalk privacy membership --run mine --shadows 8", "privfedtalk privacy membership mine --shadows 8"),
    ("privfedtalk privacy inversion --run mine", "privfedtalk privacy inversion mine"),
    (
        "privfedtalk generate --reference f.png --speech s.wav --run mine --out t.mp4",
        "privfedtalk generate mine --reference f.png --speech s.wav --out t.mp4",
    ),
    ("privfedtalk consent show --run mine", "privfedtalk consent show mine"),
    ("privfedtalk consent grant c0 --who 'A. L.' --run mine", "privfedtalk consent grant mine c0 --who 'A. L.'"),
    ("privfedtalk consent revoke c0 --run mine", "privfedtalk consent revoke mine c0"),
    ("privfedtalk consent revoke --run mine -- -FOC", "privfedtalk consent revoke -- mine -FOC"),
    ("privfedtalk adapter inspect --run mine", "privfedtalk adapter inspect mine"),
    ("privfedtalk adapter export --run mine --out x", "privfedtalk adapter export mine --out x"),
    ("privfedtalk adapter import x --as theirs --run mine", "privfedtalk adapter import mine x --as theirs"),
    # --out was the run's folder; a path, where a RUN without a slash is a name.
    ("privfedtalk prepare --root r --out data/real", "privfedtalk prepare data/real --root r"),
    ("privfedtalk prepare --out real", "privfedtalk prepare ./real"),
    ("privfedtalk prepare -oreal --vae taef2", "privfedtalk prepare ./real --vae taef2"),
    ("privfedtalk prepare --run real", "privfedtalk prepare real"),
    # The run's default was the demo's where a client or a folder came first.
    ("privfedtalk consent revoke c0", "privfedtalk consent revoke demo c0"),
    ("privfedtalk consent grant c0 --who Ada", "privfedtalk consent grant demo c0 --who Ada"),
    ("privfedtalk consent revoke mine", "privfedtalk consent revoke mine CLIENT"),
    ("privfedtalk adapter import x --as theirs", "privfedtalk adapter import demo x --as theirs"),
]


@pytest.mark.parametrize(("typed", "new"), FORMER)
def test_a_former_spelling_is_answered_with_the_new_one(typed: str, new: str) -> None:
    assert answer_to(typed) == new


@pytest.mark.parametrize("name", sorted(ON_A_RUN))
def test_every_command_on_a_run_answers_its_former_option(name: str) -> None:
    arguments = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    others = "".join(f" {argument.name}" for argument in arguments[1:])
    assert answer_to(f"privfedtalk {name}{others} --run mine").startswith(f"privfedtalk {name} mine{others}")


@pytest.mark.parametrize("new", [new for _, new in FORMER])
def test_no_answer_is_answered_in_its_turn(new: str) -> None:
    """With an option that no command has, so that nothing is begun."""
    words = shlex.split(new)[1:]
    words.insert(words.index("--") if "--" in words else len(words), "--no-such-option")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "No such option" in result.stderr


def test_the_answer_is_a_document_under_json() -> None:
    result = CliRunner().invoke(app, ["train", "--run", "mine", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["remedy"] == "privfedtalk train mine --json"
