"""The instance of deploy/ on a real Postgres server: runs, events, checks and the pool of the accelerator are in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import dagster as dg
import pytest

from tests.deploy.postgres_server import server
from tests.pipelines.live_dagster import BIN, PROJECT
from tests.ui.test_browser import SMALLEST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("dagster_postgres", reason="needs the extra `deploy`")
    folder = tmp_path_factory.mktemp("deployment")
    home = folder / "home"
    home.mkdir()
    shutil.copy(PROJECT / "deploy" / "dagster.yaml", home / "dagster.yaml")
    values = SMALLEST | {"run": "deployed", "data": str(folder / "data")}
    lines = "".join(f"  {name}: {value}\n" for name, value in values.items())
    (folder / "params.yaml").write_text(f"profile: small\nset:\n{lines}")
    with server(folder / "postgres") as own:
        yield own | {
            "DAGSTER_HOME": str(home),
            "PRIVFEDTALK_LOGS": str(folder / "logs"),
            "PRIVFEDTALK_PARAMS": str(folder / "params.yaml"),
        }


def test_two_processes_share_runs_checks_and_pools(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process materialises, as a worker machine does; another, this one, reads what it did from the database."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [str(BIN / "dagster"), "asset", "materialize", "-m", "pipelines.definitions", "--select", "group:corpus"]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with dg.DagsterInstance.get() as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS
        event = instance.get_latest_materialization_event(dg.AssetKey("manifest"))
        assert event is not None and event.asset_materialization is not None
        people = sum(SMALLEST[f"studio.{role}"] for role in ("public_speakers", "clients", "unseen", "volunteers"))
        assert event.asset_materialization.metadata["speakers"].value == people
        checks = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        assert [record.event_log_entry.get_dagster_event().asset_check_evaluation_data.passed for record in checks] == [
            True
        ]
        # The pool is the database's, so that it holds across machines.
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
    with dg.DagsterInstance.get() as other:
        assert other.event_log_storage.get_concurrency_info("gpu").slot_count == 1


def test_the_storage_is_migrated_by_the_documented_command(environment: dict[str, str]) -> None:
    migrate = [str(BIN / "dagster"), "instance", "migrate"]
    done = subprocess.run(migrate, cwd=PROJECT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
