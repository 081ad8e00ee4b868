"""`privfedtalk clients` as its reader sees it, over a run whose files are made by the real steps' writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from common.folders import RunFolder
from pipelines.cli import app
from pipelines.cli.clients import LISTED
from preparation.clients.report import ClientReport, ClientRow, save_client_report
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import Sample, write_shards


def sample(client: str, clip: str) -> Sample:
    return Sample(
        key=clip.replace("/", "--"), client=client, clip_id=clip, split="train", latents=np.zeros((8, 4, 2, 2), "f2"),
        speech=np.zeros((8, 4, 3), "f2"), reference_latent=np.zeros((4, 2, 2), "f2"),
        reference=np.zeros((16, 16, 3), "u1"), landmarks=np.zeros((8, 68, 2), "f4"),
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A client of two people, one of whose clips gave no sample; another without shards; fifty public people."""
    run = RunFolder(tmp_path / "mine")
    own = {"train": ["a/1", "b/1"], "validation": ["a/2"], "test": []}
    table = {"host": Client("client", "host", own, people={"a/1": "a", "a/2": "a", "b/1": "b"})}
    table["new"] = Client("client", "new", {"train": ["new/1", "new/2"], "validation": [], "test": []}, one_video=True)
    for number in range(50):
        name = f"p{number:04d}"
        table[name] = Client("public", name, {"train": [f"{name}/1"], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    write_shards(run.client("host"), [sample("host", clip) for clip in ("a/1", "b/1")])
    return run


def shown(run: RunFolder, *more: str) -> list[str]:
    result = CliRunner().invoke(app, ["clients", str(run.root), *more], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def cells(lines: list[str], name: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_each_client_has_a_row(run: RunFolder) -> None:
    lines = shown(run)
    host = cells(lines, "host")
    assert host[:7] == ["host", "client", "2", "2", "1", "0", "2"] and host[8] == "1 clip in quarantine"
    assert cells(lines, "new")[5:] == ["0", "–", "–", "one video in several splits, no shards yet"]
    assert sum(line.startswith("│ p0") for line in lines) == LISTED
    assert cells(lines, "…")[8] == "10 more (--all)"
    assert sum(line.startswith("│ p0") for line in shown(run, "--all")) == 50
    assert "not measured yet" in lines[-1]


def test_the_report_is_told_where_it_is(run: RunFolder) -> None:
    rows = [ClientRow("host", 3, 2, 1, 0, 2.0, 2, False, 3, 0.5, 0.3, 0.8)]
    save_client_report(ClientReport(rows, 3, 0.25, 1.5, 0.5, 0.2, 0.3, 0.1, 0.8), run.client_report)
    said = "\n".join(shown(run))
    assert "3 clips, Gini 0.25, largest to median 1.5" in said
    assert "0.50 (by chance 0.20)" in said and str(run.client_report.parent) in said


def test_a_run_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["clients", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no client table" in result.output and "privfedtalk prepare" in result.output
