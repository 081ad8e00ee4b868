"""`--json`: every command has it, and standard output is then one document, of a failure too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import Command
from typer.main import get_command
from typer.testing import CliRunner

from common.folders import RunFolder
from common.weights import registry as weights
from pipelines.cli import app
from pipelines.errors import FailedCheckError
from preparation.clients.roles import Client, save_clients
from preparation.quarantine import QuarantineRow, save_quarantine
from preparation.shards.store import Sample, write_shards
from tests.training.privacy_records import round_record, settings_with, write_method

MISSED = FailedCheckError("lips do not follow", "train longer")


def told(*arguments: str, code: int = 0) -> Any:
    """The one document that a command prints."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Command]]:
    for own, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from leaves(below, f"{name}{own} ")
        else:
            yield name + own, below


def test_every_command_has_it() -> None:
    found = dict(leaves(get_command(app)))
    assert {"demo", "weights fetch", "adapter import", "privacy report"} <= set(found)
    assert [name for name, command in found.items() if "--json" not in str([p.opts for p in command.params])] == []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A folder as jobs leave it, and jobs that only print: to where only the document may stand."""
    run = RunFolder(tmp_path / "mine")
    methods = {"privfedtalk": {"private": True, "psnr": 20.0, "ssim": 0.9}, "backbone": {"psnr": 19.0}}
    criteria = [
        {"name": "identity", "what": "same person", "direction": "at least", "bar": 0.9, "value": 0.8, "pass": False}
    ]
    privacy = {"epsilon_release": 3.0, "delta": 0.1, "mark": "Private", "private": True, "events": []}
    found = {"methods": methods, "bars": criteria, "privacy": privacy, "seconds": {"total": 60}, "peak_memory_gb": 1}
    missing = [{"metrics": ["fvd"], "reason": "no network", "remedy": "get it"}]
    run.root.mkdir()
    run.results.write_text(json.dumps({**found, "missing": missing, "report": "report/index.html"}))
    monkeypatch.setattr("pipelines.runner.run_jobs", lambda *_, **__: sys.stdout.write("a library's own words"))
    return run


@pytest.mark.parametrize("command", ["demo", "evaluate", "report"])
def test_what_came_of_a_run(run: RunFolder, command: str) -> None:
    document = told(command, str(run.root))
    assert document["methods"]["privfedtalk"]["psnr"] == 20.0 and document["methods"]["backbone"]["private"] is None
    assert document["privacy"]["epsilon_release"] == 3.0 and document["missing"][0]["metrics"] == ["fvd"]
    assert document["report"] == str(run.root / "report" / "index.html") and document["bars"][0]["pass"] is False
    assert "error" not in document


@pytest.mark.parametrize("command", ["demo", "evaluate", "report"])
def test_a_missed_gate_is_told_with_the_figures(run: RunFolder, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def miss(*_: object, **__: object) -> None:
        raise MISSED

    monkeypatch.setattr("pipelines.runner.run_jobs", miss)
    document = told(command, str(run.root), code=1)
    assert (document["error"], document["remedy"]) == ("lips do not follow", "train longer")
    assert document["bars"][0]["name"] == "identity"


def test_what_can_be_mended_is_told(run: RunFolder) -> None:
    document = told("train", str(run.root), "--set", "training.federation.round=3", code=2)
    assert "training.federation.round" in document["error"] and set(document) == {"error", "remedy"}
    assert "no client table" in told("clients", str(run.root), code=2)["error"]


def test_an_interruption_is_told_with_the_way_on(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.runner.run_jobs", interrupt)
    monkeypatch.setattr(sys, "argv", ["privfedtalk", "train", "mine", "--json"])
    document = told("train", str(run.root), code=130)
    assert document["remedy"] == "privfedtalk train mine --json"


def test_preparation(run: RunFolder) -> None:
    own = {"train": ["host/1"], "validation": ["host/2"], "test": []}
    save_clients({"host": Client("client", "host", own)}, run.clients_table)
    write_shards(
        run.client("host"),
        [
            Sample(
                key="host--1", client="host", clip_id="host/1", split="train", latents=np.zeros((50, 4, 2, 2), "f2"),
                speech=np.zeros((50, 4, 3), "f2"), reference_latent=np.zeros((4, 2, 2), "f2"),
                reference=np.zeros((16, 16, 3), "u1"), landmarks=np.zeros((50, 68, 2), "f4"),
            )
        ],
    )  # fmt: skip
    save_quarantine([QuarantineRow(f"{name}.mp4", "quality", "no sound", "give it") for name in "ab"], run.quarantine)
    document = told("prepare", str(run.root), "--set", "training.consent.required=true")
    assert (document["people"], document["samples"], document["seconds"]) == (1, 1, 2.0)
    alike = {"step": "quality", "reason": "no sound", "remedy": "give it", "files": 2, "first": "a.mp4"}
    assert document["quarantined"] == [alike] and document["identities"] is None
    assert (document["clients"], document["may_be_trained_on"]) == (1, 0)
    assert document["sit_out"] == {"not recorded": 1}

    listed = told("clients", str(run.root))
    assert listed["clients"][0] | {"bytes": 0} == {
        "name": "host", "role": "client", "people": 1, "train": 1, "validation": 1, "test": 0, "one_video": False,
        "samples": 1, "quarantined": 1, "bytes": 0,
    }  # fmt: skip
    assert listed["how_unlike"] is None


def test_training(run: RunFolder) -> None:
    write_method(run, "fedavg", settings_with(), [round_record(1), round_record(2)])
    document = told("train", str(run.root), "--method", "fedavg")
    assert list(document["methods"]) == ["fedavg"] and document["methods"]["fedavg"]["rounds"] == 2
    assert document["methods"]["fedavg"]["private"] is True and document["methods"]["fedavg"]["epsilon_release"] < 10
    reported = told("privacy", "report", str(run.root), "--out", str(run.root / "privacy"))
    assert reported["fedavg"]["verdict"] == "Private" and Path(reported["fedavg"]["page"]).exists()


def test_tables(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.files import write_text

    monkeypatch.setattr("evaluation.report.files.write_tables", lambda _, out: [write_text(out / "t.md", "a table")])
    document = told("tables", str(run.root), "--only", "tables")
    assert document == {"run": str(run.root), "files": [str(run.root / "tables" / "t.md")]}


def test_settings() -> None:
    (setting,) = told("config", "federation.rounds", "--set", "training.federation.rounds=41").values()
    assert setting == {"value": 41, "default": 6, "description": "rounds of the federation (T)", "unit": None}
    (setting,) = told("config", "availability.deadline_seconds").values()
    assert (setting["value"], setting["default"], setting["unit"]) == (None, None, "seconds")


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "network.bin"
    source.write_bytes(b"a network")
    known = weights.Weight("net.bin", 9, weights.sha256_of(source), source.as_uri(), "MIT", "made up")
    monkeypatch.setitem(weights.REGISTRY, "net", known)
    assert told("weights", "check")["net"]["state"] == "absent"
    (fetched,) = told("weights", "fetch", "net")["fetched"]
    assert fetched["published"] and Path(fetched["file"]).read_bytes() == b"a network"
    (row,) = (row for row in told("weights", "list")["weights"] if row["name"] == "net")
    assert (row["state"], row["path"], row["licence"]) == ("present", fetched["file"], "MIT")
    Path(fetched["file"]).write_bytes(b"another!!")
    assert told("weights", "check", code=2)["net"]["state"] == "damaged"
