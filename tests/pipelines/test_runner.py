"""Runs of the command line on the project's own Dagster instance."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import FrameType

import dagster as dg
import pytest

from pipelines import runner
from preparation.errors import PrivFedTalkError


def test_nobody_waits_for_a_place_in_a_pool_that_a_killed_run_has_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(runner.PROJECT / "dagster.yaml", tmp_path)
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")  # restored at the end: the instance sets it
    made = []

    @dg.asset(pool="gpu")
    def trained() -> None:
        made.append("trained")

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the run waits for a place")

    with runner._instance(None) as instance:
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("gpu")
        assert storage.claim_concurrency_slot("gpu", "a run whose process is gone", "trained").is_claimed
        assert storage.get_concurrency_info("gpu").active_slot_count == storage.get_concurrency_info("gpu").slot_count
        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(20)
        try:
            assert dg.materialize([trained], instance=instance).success
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        # It is remembered where `dagster dev` looks.
        assert instance.get_latest_materialization_event(trained.key) is not None
    assert made == ["trained"] and (tmp_path / ".dagster/storage").exists()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which a file stands where Dagster's folder would be made: as good as read-only, for root too."""
    shutil.copy(runner.PROJECT / "dagster.yaml", tmp_path)
    (tmp_path / ".dagster").write_text("in the way")
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    return tmp_path


def test_a_project_that_cannot_be_written_names_the_variable_to_set(project: Path) -> None:
    with pytest.raises(PrivFedTalkError, match=r"cannot write to .*\.dagster") as refused, runner._instance(None):
        pass
    assert "export PRIVFEDTALK_DAGSTER=FOLDER" in refused.value.remedy


def test_dagsters_records_lie_where_the_variable_says(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "my records #2"
    monkeypatch.setenv(runner.DAGSTER_VARIABLE, str(records))

    @dg.asset
    def made() -> None:
        pass

    with runner._instance(None) as instance:
        assert dg.materialize([made], instance=instance).success
        assert instance.get_latest_materialization_event(made.key) is not None
    assert (records / "storage").is_dir() and (project / ".dagster").read_text() == "in the way"
