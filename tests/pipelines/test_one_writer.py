"""A run is one writer's: a job that Dagster launched and a command keep each other out, whoever was first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.stage.partitions import client_buckets
from common import locks
from common.folders import RunFolder
from common.locks import BusyError, busy, holders, locked
from pipelines import resources
from pipelines.resources import RunResource, within_command
from tests.pipelines.live_dagster import BIN, PROJECT, Home, make_home, running, until
from tests.pipelines.smallest import SMALLEST_STUDIO

FILE = str(Path(__file__).with_name("slowed_definitions.py"))


def home_of(tmp_path: Path, **environment: str) -> tuple[Home, RunFolder]:
    settings = {"data": str(tmp_path / "data"), "run": "mine", "workers": 1}
    settings |= dict(one.split("=", 1) for one in SMALLEST_STUDIO)
    home = make_home(tmp_path / "home", "small", settings)
    home.environment.update(environment)
    return home, RunFolder(tmp_path / "data" / "mine")


@pytest.mark.slow
def test_a_command_is_kept_out_while_dagster_prepares_and_let_in_when_dagster_was_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    home, run = home_of(tmp_path, SLOWED="crops", MARK=str(mark))
    buckets = client_buckets.get_partition_keys()
    tags = {"dagster/asset_partition_range_start": buckets[0], "dagster/asset_partition_range_end": buckets[-1]}
    with running(home, "dagster", "job", "execute", "-f", FILE, "-j", "prepare", "--tags", json.dumps(tags)) as job:
        until(lambda: mark.exists() or job.poll() is not None, 180, home, "the crops")
        assert job.poll() is None, home.said
        command = [str(BIN / "privfedtalk"), "prepare", str(run.root), "--profile", "small"]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PRIVFEDTALK_DAGSTER": str(tmp_path / "records")}
        refused = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        (holder,) = {(one.process, one.what) for one in holders(run.command_lock)}
        assert refused.returncode == 2, refused.stderr
        assert f"another command works on {run.root}: Dagster's job prepare (run " in refused.stderr
        assert f"process {holder[0]}" in refused.stderr and "since 20" in refused.stderr
        assert not (run.root / "configuration.yaml").exists(), "what the run was made with is not changed"
        os.killpg(job.pid, signal.SIGKILL)
        job.wait(30)
    with locked(run.command_lock, "prepare"):
        assert busy(run.command_lock).startswith("prepare, process")


@pytest.mark.slow(minutes=0.2)
def test_steps_of_one_job_run_in_processes_of_their_own(tmp_path: Path) -> None:
    home, run = home_of(tmp_path)
    with running(home, "dagster", "job", "execute", "-f", FILE, "-j", "both") as job:
        assert job.wait(180) == 0, home.said
    signed = [json.loads(line) for line in run.command_lock.read_text().splitlines()]
    assert len({line["process"] for line in signed}) == 3, "the process that leads the job, and one for each step"
    with locked(run.command_lock, "prepare"):
        pass


def resource(tmp_path: Path) -> RunResource:
    return RunResource(profile="small", overrides={"data": str(tmp_path), "run": "mine"})


def test_dagster_is_kept_out_while_a_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    run, context = RunFolder(tmp_path / "mine"), dg.build_init_resource_context()
    with (
        locked(run.command_lock, "train"),
        pytest.raises(BusyError, match=r"train, process \d+, since"),
        resource(tmp_path).yield_for_execution(context),
    ):
        pass
    with resource(tmp_path).yield_for_execution(context) as opened, resource(tmp_path).yield_for_execution(context):
        assert opened.folder == run
        with pytest.raises(BusyError, match=r"works on .*/mine: Dagster"), locked(run.command_lock, "train"):
            pass
    with locked(run.command_lock, "train"), within_command(), resource(tmp_path).yield_for_execution(context):
        assert busy(run.command_lock).startswith("train")


def test_the_lock_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time, dagster as dg; from pipelines.resources import RunResource\n"
        "resource = RunResource(profile='small', overrides={'data': sys.argv[1], 'run': 'mine'})\n"
        "with resource.yield_for_execution(dg.build_init_resource_context()):\n"
        "    print('held', flush=True); time.sleep(300)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        lock = RunFolder(tmp_path / "mine").command_lock
        with pytest.raises(BusyError, match=rf"Dagster, process {child.pid}, since"), locked(lock, "x", patience=0.05):
            pass
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    began = time.monotonic()
    with locked(lock, "x"):
        assert time.monotonic() - began < locks.PATIENCE_SECONDS
