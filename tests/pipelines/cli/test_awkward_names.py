"""Every option that takes a path or a name takes it as it was typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from common.folders import RunFolder
from pipelines.cli import app
from pipelines.configuration import tree as configuration
from pipelines.configuration.tree import Configuration, configure, load, remember
from preparation.clients.consent import read_consent
from preparation.clients.roles import Client, save_clients
from tests.pipelines.cli.awkward import AWKWARD

FILES = [name for name in AWKWARD if "/" not in name and name != "~"]  # that one is the home folder, as everywhere
given = pytest.mark.parametrize("name", FILES)
few = pytest.mark.parametrize("name", FILES[::4])  # where the way from the option on is one that others test with all


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names are typed in a folder of their own, relative to it; what `data/` holds is no business of these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configuration, "PROJECT", tmp_path / "project")
    return tmp_path


def asked(monkeypatch: pytest.MonkeyPatch, *typed: str) -> Configuration:
    """The configuration that jobs are given, as Dagster reads it in the project's folder."""
    jobs: list[tuple[str, dict[str, Any]]] = []

    def note(_: Any, profile: str, overrides: dict[str, Any], **__: Any) -> None:
        jobs.append((profile, overrides))

    monkeypatch.setattr("pipelines.runner.run_jobs", note)
    monkeypatch.setattr("pipelines.terminal.summary.show_preparation", lambda *_: None)
    monkeypatch.setattr("pipelines.terminal.summary.show_consent", lambda *_: None)
    monkeypatch.setattr("pipelines.terminal.summary.show_standings", lambda *_: None)
    result = CliRunner().invoke(app, list(typed))
    assert result.exit_code == 0, result.output
    with monkeypatch.context() as moved:
        moved.chdir("/")
        return configure(*jobs[0])


@given
def test_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / name).write_text("pretrain/a/1\n")
    (tmp_path / name / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')  # as far as it is looked at
    kind = ["--corpus", "lrs3", "--root", name, "--list", f"list/{name}", "--vae", name]
    found = asked(monkeypatch, "prepare", f"runs/{name}", *kind)
    assert found.corpus.root == tmp_path / name and found.root == tmp_path / "runs" / name
    assert found.preparation.corpus.lists == (tmp_path / "list" / name,)
    assert found.training.vae.source == str(tmp_path / name)


@few
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / name).write_text("client,who,scope,expires\nanna,Anna,training,\n")
    monkeypatch.setattr("pipelines.terminal.summary.print_results", lambda *_: None)
    chosen = ["--corpus", "folder", "--root", name, "--consent", f"table/{name}"]
    found = asked(monkeypatch, "demo", f"runs/{name}", *chosen)
    assert found.corpus.root == tmp_path / name and found.root == tmp_path / "runs" / name
    assert found.training.privacy.seeded_noise is None and found.training.consent.required


@few
def test_the_parts_and_tables_of_a_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder / name).mkdir(parents=True)
    parts = ["--part", f"lrs3=a/{name}", "--part", f"hdtf=b/{name}", "--tables", f"c/{name}"]
    found = asked(monkeypatch, "prepare", f"d/{name}", "--corpus", "mix", *parts).corpus.parts
    assert [part.root for part in found] == [tmp_path / "a" / name, tmp_path / "b" / name]
    assert found[1].tables == tmp_path / "c" / name


@few
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str) -> None:
    remember(load("small", ["seed=7", f"data={json.dumps(str(tmp_path))}", f"run={json.dumps(name)}"]))
    found = asked(monkeypatch, command, f"./{name}")
    assert (found.root, found.seed) == (tmp_path / name, 7)
    named = asked(monkeypatch, command, "--", name)
    assert named.root == tmp_path / "project" / "data" / name


@few
def test_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / f"{name}.yaml").write_text("seed: 5\n")
    assert asked(monkeypatch, "train", "--profile", f"{name}.yaml").seed == 5


@given
def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    typed = (
        [name, json.dumps([name])] if name not in ('"quoted"', "'single'") else [json.dumps(name), json.dumps([name])]
    )
    settings = [f"training.vae.source={typed[0]}", f"preparation.clients.volunteers={typed[1]}"]
    found = asked(monkeypatch, "train", *(part for each in settings for part in ("--set", each)))
    assert found.training.vae.source == name and found.preparation.clients.volunteers == (name,)


@pytest.mark.parametrize("name", [".", "..", "a\nb", "", "/", "x" * 250, " a ", "a\u202eb"])
def test_what_can_be_no_run_is_refused(name: str) -> None:
    result = CliRunner().invoke(app, ["train", "--set", "run=" + name, "--", name])
    assert result.exit_code == 2 and "remedy:" in result.stderr and "Traceback" not in result.output


@pytest.mark.parametrize("name", AWKWARD)
def test_who_agreed(tmp_path: Path, name: str) -> None:
    run = RunFolder(tmp_path / "mine")
    splits = {"train": ["c0/1"], "validation": [], "test": []}
    save_clients({"c0": Client("client", "c0", splits)}, run.clients_table)
    result = CliRunner().invoke(app, ["consent", "grant", str(run.root), "c0", "--who", name])
    assert result.exit_code == 0 and name in result.stdout, result.output
    consent = read_consent(run, "c0")
    assert consent is not None and consent.who == name
    shown = CliRunner().invoke(app, ["consent", "show", str(run.root)], env={"COLUMNS": "400"})
    assert shown.exit_code == 0 and name in shown.stdout, shown.output


def test_a_client_that_looks_like_an_option(tmp_path: Path) -> None:
    run, name = RunFolder(tmp_path / "mine"), "-FOCpMAww28"
    save_clients(
        {name: Client("client", name, {"train": [f"{name}/1"], "validation": [], "test": []})}, run.clients_table
    )
    where = str(run.root)
    assert CliRunner().invoke(app, ["consent", "grant", "--who", "Ada", "--", where, name]).exit_code == 0
    assert read_consent(run, name) is not None
    revoked = CliRunner().invoke(app, ["consent", "revoke", where, "--", name])
    assert revoked.exit_code == 0 and f"privfedtalk prepare {run.root} --forget" in revoked.stdout


@few
def test_where_an_adapter_lies_and_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen: list[Path] = []

    def inspect(folder: Path) -> _Facts:
        seen.append(folder)
        return _Facts()

    monkeypatch.setattr("training.adapters.folders.inspect_adapter", inspect)
    assert CliRunner().invoke(app, ["adapter", "inspect", "--json", f"--folder={name}"]).exit_code == 0
    assert seen == [Path(name)]


class _Facts:
    def to_json(self) -> dict[str, str]:
        return {}
