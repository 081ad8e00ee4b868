"""What the documents tell people to type is there: commands, options, settings with their values, targets, links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.configuration.tree import Configuration, load
from pipelines.definitions import defs

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")])
TOOLS = ("privfedtalk", "make", "dagster", "dagster-webserver", "dagster-daemon", "dvc", "docker")
RUN = ("config", "weights list", "privacy plan")
"""Commands that need no run and no data: these are run as they stand; accounting takes some seconds."""

SETTING = re.compile(r"[a-z_]*(?:\.[a-z0-9_]+)*=\S.*")
GROUPS = tuple(f"{name}." for name in Configuration.model_fields)


def commands_in(path: Path) -> Iterator[tuple[str, bool]]:
    """Every command of a document, and whether it is whole: a mention inside a sentence may leave arguments out."""
    text = path.read_text()
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fenced if language in ("", "sh", "bash")]
    blocks += re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        yield from ((command, True) for command in _simple(line))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):  # a mention may go on in the next line
        for mention in re.findall(r"`([^`]+)`", paragraph):
            yield from ((command, False) for command in _simple(" ".join(mention.split())))


def _simple(line: str) -> Iterator[str]:
    for part in re.split(r"\s+#\s|&&|\|", line, maxsplit=1)[0].split(";"):
        words = [word for word in part.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if words and words[0].removeprefix(".venv/bin/") in TOOLS:
            yield " ".join(words).removeprefix(".venv/bin/")


def settings_in(path: Path) -> Iterator[str]:
    """Every `a.b=value`; `.c=value` after it is its neighbour, `=value` the same key with another value."""
    key = ""
    for mention in re.findall(r"`'?([^`\n]+?)'?`", path.read_text()):
        for text in re.split(r",\s+(?=\.|=)", mention):
            if not SETTING.fullmatch(text):
                continue
            name, _, value = text.partition("=")
            if name.startswith(GROUPS):
                key = name
            elif name.startswith(".") and key:
                key = key.rpartition(".")[0] + name
            elif name or not key:
                continue
            yield f"{key}={value}"


ALL = sorted({(path.name, command, whole) for path in DOCUMENTS for command, whole in commands_in(path)})


def of(tool: str) -> list[tuple[str, str, bool]]:
    return [entry for entry in ALL if entry[1].split()[0] == tool]


RUNNABLE = sorted(
    {
        command
        for _, command, _ in of("privfedtalk")
        if command.removeprefix("privfedtalk ").startswith(RUN) and not command.endswith(" plan")
    }
)
SLOWER = [pytest.param(command, marks=pytest.mark.slow) for command in RUNNABLE if " plan " in command]


def test_there_is_something_to_check() -> None:
    assert len(of("privfedtalk")) > 40 and len(of("make")) > 4 and of("dagster") and len(RUNNABLE) > 3
    assert "training.adapter.averaging=fedex" in set(settings_in(ROOT / "README.md"))


@pytest.mark.parametrize(("document", "command", "whole"), of("privfedtalk"))
def test_a_command_and_its_options_exist(document: str, command: str, whole: bool) -> None:
    words = [word for word in shlex.split(command)[1:] if word not in ("…", "...")]
    found: Any = get_command(app)
    context = found.context_class(found, info_name="privfedtalk")
    if words[:1] and words[0].startswith("--"):
        assert words[0] in {option for parameter in found.params for option in parameter.opts}, f"{document}: {command}"
        return
    while hasattr(found, "resolve_command") and words:
        name, below, words = found.resolve_command(context, words)
        found, context = below, below.context_class(below, parent=context, info_name=name)
    if hasattr(found, "resolve_command"):
        assert not whole, f"{document}: {command} names no command"
        return
    try:
        values = found.make_context(context.info_name, words, parent=context.parent).params
    except Exception as error:
        # A mention inside a sentence may leave arguments out; what it does name must be there.
        assert type(error).__name__ == "MissingParameter" and not whole, f"{document}: {command}: {error!r}"
        return
    load(values.get("profile") or "demo", values.get("settings") or [])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_settings_are_known_and_take_their_values(path: Path) -> None:
    for setting in settings_in(path):
        if "…" not in setting:
            # A corpus that is not rendered refuses what only rendered data may have; the key is what is checked.
            load("paper" if setting.startswith("corpus.") else "demo", [setting])


@pytest.mark.parametrize(("document", "command", "whole"), of("make"))
def test_a_target_exists(document: str, command: str, whole: bool) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = [word for word in command.split()[1:] if "=" not in word and not word.startswith("-")]
    assert set(wanted) <= targets, f"{document}: {command}"


def test_jobs_and_stages_that_are_named_exist() -> None:
    for document, command, _ in of("dagster"):
        words = shlex.split(command)
        for flag, value in pairwise(words):
            if flag in ("-j", "--job"):
                assert value in {job.name for job in defs.jobs or []}, f"{document}: {command}"
            if flag == "-m":
                assert value == "pipelines.definitions", f"{document}: {command}"
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for document, command, _ in of("dvc"):
        if command.startswith("dvc repro"):
            targets = [word for word in command.split()[2:] if not word.startswith("-")]
            assert all(word in stages or (ROOT / word).exists() for word in targets), f"{document}: {command}"


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({command for _, command, whole in of("dagster") if whole}))
def test_dagsters_commands_have_the_options_that_are_named(command: str) -> None:
    words = shlex.split(command)
    options = [word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)]
    path = words[1 : words.index(options[0])] if options else words[1:]
    dagster = Path(sys.executable).with_name("dagster")
    told = subprocess.run([dagster, *path, "--help"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert all(re.search(rf"(^|[\s,]){option}\b", told.stdout) for option in options), command


@pytest.mark.parametrize("command", [*SLOWER, *(command for command in RUNNABLE if " plan " not in command)])
def test_commands_that_need_nothing_run(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(tmp_path))
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not target.startswith(("http", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.name}: {target}"
