"""`privfedtalk privacy` as its reader sees it."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from pipelines.cli import app

PLAN = ["privacy", "plan", "--clients", "60", "--rounds", "20", "--per-round", "60", "--sampling", "full"]


def invoke(*arguments: str):
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
