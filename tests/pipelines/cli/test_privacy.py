"""`privfedtalk privacy` as its reader sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from common.folders import RunFolder
from pipelines.cli import app
from pipelines.terminal.summary import show_results
from pipelines.terminal.text import console
from tests.training.privacy_records import round_record, settings_with, write_method

PLAN = ["privacy", "plan", "--clients", "60", "--rounds", "20", "--per-round", "60", "--sampling", "full"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "130"})


def test_the_plan_says_what_to_set_and_what_it_costs() -> None:
    made = json.loads(invoke(*PLAN, "--target-epsilon", "4", "--json").stdout)
    shown = invoke(*PLAN, "--target-epsilon", "4").stdout
    setting = next(line for line in shown.splitlines() if line.startswith("--set training.privacy.noise_multiplier="))
    assert made["noise_multiplier"] <= float(setting.partition("=")[2]) < 1.001 * made["noise_multiplier"]
    assert f"{made['release']['value']:.4g}" in shown and made["release"]["accountant"] in shown
    assert f"{made['cost']['noise_over_update']:.3g}" in shown
    assert "6,000" in shown  # a hundred times the clients


def test_an_unreachable_target_is_a_clear_message() -> None:
    result = invoke(*PLAN, "--target-epsilon", "1e-9", "--mode", "central", "--delta", "1e-15")
    assert result.exit_code == 2
    assert "no noise multiplier below" in result.stderr and "remedy: ask for a larger ε" in result.stderr
    assert invoke(*PLAN, "--target-epsilon", "4", "--delta", "1").exit_code == 2
    assert "all clients" in invoke(*PLAN[:-1], "full", "--target-epsilon", "4", "--per-round", "6").stderr


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a sound method whose clipping norm moved, and one without noise."""
    run = RunFolder(tmp_path / "mine")
    moved = settings_with(adaptive_clipping=True)
    records = [round_record(1), round_record(2)]
    write_method(run, "privfedtalk", moved, records)
    write_method(run, "fedavg", settings_with(mode="none"), records)
    return run


def test_the_report_of_a_run(run: RunFolder) -> None:
    result = invoke("privacy", "report", str(run.root))
    assert result.exit_code == 0, result.output
    out = run.report / "privacy"
    for method, verdict in (("privfedtalk", "Private"), ("fedavg", "NOT PRIVATE")):
        told = json.loads((out / f"{method}.json").read_text())
        page, markdown = (out / f"{method}.html").read_text(), (out / f"{method}.md").read_text()
        assert told["verdict"] == verdict and verdict in page and f"**{verdict}.**" in markdown
        assert verdict in next(line for line in result.output.splitlines() if line.startswith(f"  {method} "))
        assert not re.search(r"""(src|href)=["'](?!data:|#)|url\((?!data:)|@import|<script""", page)
        assert len(page) < 100_000 and 'name="viewport"' in page
        for part in ("What the server saw", "What is not protected", "What the figures rest on", "zero-out"):
            assert part in page and part in markdown
    assert "Why this run is not private" in (out / "fedavg.html").read_text()


def test_a_run_that_claims_too_much_cannot_be_reported(run: RunFolder, tmp_path: Path) -> None:
    path = run.federation("privfedtalk") / "privacy.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "settings": {**told["settings"], "seeded_noise": 7}}))
    result = invoke("privacy", "report", str(run.root), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2 and "settings.seeded_noise is 7 in the report" in result.stderr
    assert not (tmp_path / "out").exists()
    nothing = invoke("privacy", "report", str(tmp_path / "other"))
    assert nothing.exit_code == 2 and "is trained" in nothing.stderr


def test_the_closing_table_marks_what_is_not_private(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 80)
    methods = {"privfedtalk": {"private": False, "psnr": 20.0}, "fedavg": {"private": True}, "copy_reference": {}}
    privacy = {"epsilon_release": 3.0, "delta": 0.1, "mark": "NOT PRIVATE: a known seed."}
    results = {"methods": methods, "bars": [], "privacy": privacy, "seconds": {"total": 60}, "peak_memory_gb": 1}
    run.results.write_text(json.dumps({**results, "report": "report/index.html"}))
    show_results(run.root)
    shown = capsys.readouterr().out
    rows = {name: next(line for line in shown.splitlines() if name in line) for name in methods}
    assert [name for name, row in rows.items() if "*" in row] == ["privfedtalk"] and "* not private" in shown
    assert "…" not in shown and max(map(len, rows.values())) <= 80  # an ordinary terminal shows all of it
    assert "NOT PRIVATE: a known seed." in shown
