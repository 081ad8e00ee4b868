"""Runs of the command line on the project's own Dagster instance."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from pathlib import Path
from types import FrameType

import dagster as dg
import pytest

from common import locks
from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.locks import BusyError, locked
from pipelines import resources, runner
from pipelines.configuration.tree import PROJECT, load, remember, remembered
from training.readiness import NotReadyError


def test_nobody_waits_for_a_place_in_a_pool_that_a_killed_run_has_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
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
    """A project folder whose storage nobody has used yet."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    return tmp_path


def test_several_that_use_the_storage_first_at_once_all_get_it(project: Path) -> None:
    context = multiprocessing.get_context("fork")  # so that all stand at the same point within a millisecond
    gate = context.Barrier(4)
    children = [context.Process(target=_open_at, args=(gate,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    with runner._instance(None) as instance:
        assert instance.get_runs_count() == 0


def _open_at(gate: multiprocessing.synchronize.Barrier) -> None:
    gate.wait(30)
    with runner._instance(None) as instance:
        assert instance.get_runs_count() == 0


def test_a_storage_that_cannot_be_opened_is_an_error_with_a_remedy(project: Path) -> None:
    home = project / ".dagster" / "storage" / "history"
    home.mkdir(parents=True)
    (home / "runs.db").write_bytes(b"not a database " * 100)
    with pytest.raises(PrivFedTalkError, match=r"storage cannot be opened: .*not a database") as caught:
        runner._instance(None).__enter__()
    assert "move the folder away" in caught.value.remedy


def test_two_commands_on_one_run_the_second_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    first = [f"data={tmp_path}", "run=mine", "training.federation.rounds=7"]
    configuration = load("small", first)
    remember(configuration)
    before = remembered(configuration.root).read_text()
    with (
        locked(RunFolder(configuration.root).command_lock, "prepare and train"),
        pytest.raises(BusyError, match=r"another command works on .*/mine: prepare and train, process \d+, since"),
    ):
        runner.run_jobs(["train"], "small", {"data": str(tmp_path), "run": "mine", "training.federation.rounds": 9})
    assert remembered(configuration.root).read_text() == before


def test_training_a_run_that_was_never_prepared_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="mine is not prepared"):
        runner.run_jobs(["train"], "small", {"data": str(tmp_path), "run": "mine"})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def occupied(project: Path) -> Path:
    """A checkout in which a file stands where Dagster's folder would be made: as good as read-only, for root too."""
    (project / ".dagster").write_text("in the way")
    return project


def test_a_project_that_cannot_be_written_names_the_variable_to_set(occupied: Path) -> None:
    with pytest.raises(PrivFedTalkError, match=r"cannot write to .*\.dagster") as refused, runner._instance(None):
        pass
    assert "export PRIVFEDTALK_DAGSTER=FOLDER" in refused.value.remedy


def test_dagsters_records_lie_where_the_variable_says(
    occupied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "my records #2"
    monkeypatch.setenv(runner.DAGSTER_VARIABLE, str(records))

    @dg.asset
    def made() -> None:
        pass

    with runner._instance(None) as instance:
        assert dg.materialize([made], instance=instance).success
        assert instance.get_latest_materialization_event(made.key) is not None
    assert (records / "storage").is_dir() and (occupied / ".dagster").read_text() == "in the way"


def test_what_training_lacks_is_said_before_its_first_stage(tmp_path: Path) -> None:
    asked = {"data": str(tmp_path), "run": "mine"}
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(NotReadyError, match="mine is not prepared") as caught,
    ):
        runner.run_jobs(["train"], "small", asked, instance=instance)
    assert "privfedtalk prepare" in caught.value.remedy
    assert not (tmp_path / "mine" / "stages").exists()


def test_what_dagsters_own_training_lacks_is_said_too(tmp_path: Path) -> None:
    from pipelines.definitions import defs

    run_config = runner._run_config("small", {"data": str(tmp_path), "run": "mine"}, keep=True)
    with dg.DagsterInstance.ephemeral() as instance:
        ended = defs.resolve_job_def("train").execute_in_process(
            run_config=run_config, instance=instance, partition_key="fedavg", raise_on_error=False
        )
        records = instance.get_records_for_run(ended.run_id).records
    said = [str(record.event_log_entry.dagster_event) for record in records if record.event_log_entry.dagster_event]
    assert not ended.success and any("mine is not prepared" in line for line in said), said
    assert not (tmp_path / "mine" / "stages").exists()


def test_stages_of_dvc_share_a_run_and_keep_commands_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(resources, "PATIENCE_SECONDS", 0.05)
    lock, settings = RunFolder(tmp_path / "people").command_lock, {"data": str(tmp_path), "run": "people"}
    at_work: list[str] = []

    def work(*_: object) -> None:
        at_work.append("stage")
        with pytest.raises(BusyError, match=r"a stage of dvc repro \(corpus\), process"), locked(lock, "train"):
            pass
        if len(at_work) == 1:
            runner.make_assets("prepare", ["corpus"], "small", settings, instance=instance)

    monkeypatch.setattr(runner, "_run", work)
    with dg.DagsterInstance.ephemeral() as instance:
        runner.make_assets("prepare", ["corpus"], "small", settings, instance=instance)
        assert at_work == ["stage", "stage"]
        with locked(lock, "train"), pytest.raises(BusyError, match="train, process"):
            runner.make_assets("prepare", ["corpus"], "small", settings, instance=instance)
    assert at_work == ["stage", "stage"]
