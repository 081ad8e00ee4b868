"""The schedule ticks in Dagster's own daemon, its run is launched, and the night is on the disk."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from common.folders import RunFolder
from tests.evaluation.nightly.small_nights import make_run
from tests.pipelines.live_dagster import make_home, running, until

EVERY_MINUTE = "* * * * *"


@pytest.mark.slow
def test_the_schedule_ticks_and_its_run_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "data" / "small")
    settings = {"data": str(tmp_path / "data"), "run": "small", "training.generation.steps": 1}
    home = make_home(tmp_path / "home", "small", settings | {"nightly.cron": EVERY_MINUTE, "nightly.people": 9})
    monkeypatch.setenv("DAGSTER_HOME", str(home.folder))
    with running(home, "dagster-daemon", "run", "-m", "pipelines.definitions"), dg.DagsterInstance.get() as instance:
        done = until(
            lambda: instance.get_runs(dg.RunsFilter(job_name="nightly", statuses=[dg.DagsterRunStatus.SUCCESS])),
            240,
            home,
            "a run of the nightly job",
        )
        ticked = done[0].tags
        materialised = instance.get_latest_materialization_event(dg.AssetKey("night"))
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert ticked["dagster/schedule_name"] == "nightly_evaluation"
    assert ticked["privfedtalk/night"] == today and ticked["privfedtalk/run"] == "small"
    assert materialised is not None and materialised.asset_materialization is not None
    assert materialised.asset_materialization.metadata["people"].value == 7
    night = json.loads((RunFolder(run.root).nightly / today / "night.json").read_text())
    assert set(night["means"]) == {"backbone", "privfedtalk", "fedavg"}
