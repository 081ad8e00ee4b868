"""`privfedtalk privacy audit` and `membership` as their reader sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from common.folders import RunFolder
from pipelines.cli import app
from tests.evaluation.attacks.small_people import CLIENTS, STRANGERS, federated, make_run, release
from tests.training.privacy_records import round_record, settings_with, write_method

CLAIM = ["privacy", "audit", "-z", "1.5", "-t", "1", "--sampling", "full", "-n", "2300", "--per-round", "2300"]
SMALL = ["--canaries", "400", "--dimension", "4000"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "130"})


def test_a_claim_that_holds_and_one_that_does_not() -> None:
    sound = invoke(*CLAIM, *SMALL)
    assert sound.exit_code == 0 and "Not refuted" in sound.stdout and "one-shot" in sound.stdout
    planted = invoke(*CLAIM, *SMALL, "--noise-factor", "0.2", "--json")
    told = json.loads(planted.stdout)
    assert planted.exit_code == 1 and told["flagged"] and told["final"]["value"] > told["claimed_epsilon"]


def test_a_runs_methods_are_audited_by_their_own_reports(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "mine")
    settings = settings_with(mode="central", secure_aggregation=False)
    write_method(run, "privfedtalk", settings, [round_record(1), round_record(2)])
    write_method(run, "fedavg", settings_with(mode="none", secure_aggregation=False), [round_record(1)])
    done = invoke("privacy", "audit", str(run.root), "--canaries", "60", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and set(told) == {"privfedtalk", "fedavg"}
    assert told["fedavg"]["claimed_epsilon"] is None and "nothing to refute" in told["fedavg"]["verdict"]
    assert (run.attack("audit", "privfedtalk") / "audit.json").exists()


def test_what_cannot_be_audited_is_said(tmp_path: Path) -> None:
    neither = invoke("privacy", "audit")
    assert neither.exit_code == 2 and "a RUN or the claim" in neither.stderr
    unknown = invoke("privacy", "audit", str(tmp_path / "none"))
    assert unknown.exit_code == 2 and "no privacy report of any method" in unknown.stderr


@pytest.mark.slow(minutes=0.1)
def test_the_clients_of_a_run_are_looked_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    release(run, federated(run, tmp_path, method=None))
    shown = invoke("privacy", "membership", str(run.root), "--draws", "1")
    assert shown.exit_code == 0 and "surely better than a guess" in shown.stdout and "5 in, 5 out" in shown.stdout
    told = json.loads((run.attack("membership", "fedavg") / "membership.json").read_text())
    assert set(told["people"]) == {*CLIENTS, *STRANGERS} and told["areas"]["gain"]["value"] == 0.5
    brief = "training: {federation: {rounds: 1, local_steps: 1, batch_size: 1, score_frames: 2, score_steps: 1}}\n"
    (run.root / "configuration.yaml").write_text(brief)
    shadowed = invoke("privacy", "membership", str(run.root), "--draws", "1", "--shadows", "4", "--json")
    lines = [line for line in shadowed.stderr.splitlines() if "shadow runs" in line]
    assert [line.split(" (")[0] for line in lines] == [f"attacking fedavg: {n} of 4 shadow runs" for n in range(1, 5)]
    assert json.loads(shadowed.stdout)["fedavg"]["shadows"] == 4
    odd = invoke("privacy", "membership", str(run.root), "--shadows", "2")
    assert odd.exit_code == 2 and "not a multiple of 4" in odd.stderr
    unknown = invoke("privacy", "membership", str(run.root), "--method", "privfedtalk")
    assert unknown.exit_code == 2 and "no privacy report of privfedtalk" in unknown.stderr
