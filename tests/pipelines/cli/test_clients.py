"""`privfedtalk clients` as its reader sees it, over a run whose files are made by the real steps' writers."""

from __future__ import annotations

import re
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


def shown(run: RunFolder, *more: str, columns: int = 120) -> list[str]:
    result = CliRunner().invoke(app, ["clients", str(run.root), *more], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def table_of(lines: list[str], role: str) -> list[str]:
    """The lines of a role's table, from its title to the next one."""
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{role} ("))
    ends = [number for number in range(start + 1, len(lines)) if re.match(r"\w+ \(\d+\)", lines[number])]
    return lines[start : ends[0] if ends else len(lines)]


def test_each_client_has_a_row(run: RunFolder) -> None:
    lines = shown(run)
    own = table_of(lines, "client")
    assert own[0].strip() == "client (2)"
    assert own[1].split() == ["name", "people", "train", "valid.", "test", "samples", "MB"]
    assert own[3].split()[:6] == ["host", "2", "2", "1", "0", "2"] and own[4].strip() == "1 clip in quarantine"
    assert own[5].split() == ["new", "1", "2", "0", "0", "–", "–"]
    assert [line.strip() for line in own[6:8]] == ["one video in several splits", "no shards yet"]
    public = table_of(lines, "public")
    assert public[1].split() == ["name", "train", "valid.", "test"], "what is the same for all has no column"
    assert sum(line.startswith("p0") for line in public) == LISTED
    assert public.index("all of these: no shards yet") + 1 == public.index("… 10 more (--all)")
    assert sum(line.startswith("p0") for line in shown(run, "--all")) == 50
    assert "not measured yet" in lines[-1]


def test_names_have_the_room_of_a_narrow_terminal(run: RunFolder) -> None:
    names = ["hdtf_WDA_KatieHill_from_the_hall_of_the_house_of_representatives", "retalk_speaker_0001_of_a_long_list"]
    table = {name: Client("client", name, {"train": [f"{name}/1"], "validation": [], "test": []}) for name in names}
    save_clients(table, run.clients_table)
    write_shards(run.client(names[0]), [sample(names[0], f"{names[0]}/1")])
    lines = shown(run, columns=80)
    assert max(map(len, lines[1:-1])) <= 80 and not any("…" in line for line in lines)
    own = table_of(lines, "client")
    assert own[3].split()[0] + own[4].split()[0] == names[0], "a name that does not fit goes on below"
    assert own[5].split()[0] == names[1]


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
