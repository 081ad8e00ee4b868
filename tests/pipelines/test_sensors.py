"""Sensors and the schedule, each evaluated with a real change on the disk."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.stage.partitions import BUCKETS, REFERENCES
from common.folders import RunFolder
from common.locks import locked
from evaluation.nightly.settings import NightlySettings
from pipelines import jobs, schedules, sensors
from pipelines.definitions import defs
from pipelines.schedules import nightly_evaluation
from pipelines.sensors import new_clips, new_models
from tests.evaluation.nightly.small_nights import save_adapter
from tests.training.small_models import small_backbone

NIGHT = datetime(2026, 1, 2, 2, tzinfo=UTC)


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The run that Dagster works on by itself: a folder of clips, nothing prepared."""
    root = tmp_path / "corpus"
    root.mkdir()
    params = tmp_path / "params.yaml"
    settings: dict[str, str | None] = {"run": "watched", "data": str(tmp_path / "data")}
    settings |= {"corpus.kind": "folder", "corpus.root": str(root), "training.privacy.seeded_noise": None}
    params.write_text(json.dumps({"profile": "small", "set": settings}))
    monkeypatch.setattr("pipelines.resources.PARAMS", params)
    return RunFolder(tmp_path / "data" / "watched")


def tick(sensor: dg.SensorDefinition, cursor: str | None) -> dg.SensorExecutionData:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, cursor, definitions=defs) as context,
    ):
        return sensor.evaluate_tick(context)


def test_new_clips_are_prepared_once_they_are_whole(default: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = default.root.parents[1] / "corpus" / "ann" / "one.mp4"
    clip.parent.mkdir()
    clip.write_bytes(b"half a clip")
    assert "perhaps more is being copied" in str(tick(new_clips, None).skip_message)
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.05)
    time.sleep(0.1)
    first = tick(new_clips, None)
    (request,) = first.run_requests or []
    assert request.tags["dagster/asset_partition_range_end"] == f"{BUCKETS - 1:03d}"
    settings = request.run_config["resources"]["run"]["config"]
    assert settings["keep"] is True and settings["overrides"]["run"] == "watched"
    assert "nothing is new" in str(tick(new_clips, first.cursor).skip_message)

    # A copy that keeps the original's old times is new all the same.
    shutil.copy2(clip, clip.with_name("two.mp4"))
    os.utime(clip.with_name("two.mp4"), (0, 0))
    time.sleep(0.1)
    second = tick(new_clips, first.cursor)
    assert [request.run_key for request in second.run_requests or []] == [f"clips-{second.cursor}"]
    assert second.cursor != first.cursor


def test_a_rendered_corpus_is_not_watched(default: RunFolder) -> None:
    sensors_params = default.root.parents[1] / "params.yaml"
    sensors_params.write_text("profile: small\n")
    assert "the studio renders" in str(tick(new_clips, None).skip_message)


def test_new_checkpoints_are_evaluated_and_the_references_with_a_new_backbone(
    default: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.05)
    assert "no new model" in str(tick(new_models, None).skip_message)
    small_backbone().save(default.model("backbone"))
    save_adapter(default, "fedavg", 0.01)
    time.sleep(0.1)
    first = tick(new_models, None)
    assert {request.partition_key for request in first.run_requests or []} == {"fedavg", *REFERENCES}
    assert "no new model" in str(tick(new_models, first.cursor).skip_message)
    save_adapter(default, "fedavg", 0.02)
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 60.0)
    assert "no new model" in str(tick(new_models, first.cursor).skip_message)  # perhaps half of it is written
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.05)
    time.sleep(0.1)
    second = tick(new_models, first.cursor)
    assert [request.partition_key for request in second.run_requests or []] == ["fedavg"]


def test_the_schedule_asks_for_one_run_a_night_once_something_is_trained(default: RunFolder) -> None:
    assert nightly_evaluation.default_status == dg.DefaultScheduleStatus.RUNNING
    assert (nightly_evaluation.cron_schedule, nightly_evaluation.execution_timezone) == ("0 2 * * *", "UTC")
    context = dg.build_schedule_context(scheduled_execution_time=NIGHT)
    assert "no trained model yet" in str(nightly_evaluation.evaluate_tick(context).skip_message)
    small_backbone().save(default.model("backbone"))
    save_adapter(default, "fedavg", 0.01)
    (request,) = nightly_evaluation.evaluate_tick(context).run_requests or []
    assert request.run_key == "2026-01-02" and request.tags["privfedtalk/night"] == "2026-01-02"
    assert request.run_config["ops"]["night"]["config"] == {"night": "2026-01-02"}


@pytest.mark.parametrize("cursor", ["", "half a", "[1, 2]", '"text"', "null", '{"fedavg": ["an", "older", "shape"]}'])
def test_a_cursor_that_older_code_or_a_person_wrote_is_no_traceback(
    default: RunFolder, monkeypatch: pytest.MonkeyPatch, cursor: str
) -> None:
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.0)
    save_small_backbone(default)
    save_adapter(default, "fedavg", 0.01)
    found = tick(new_models, cursor)
    assert "fedavg" in {request.partition_key for request in found.run_requests or []}
    assert "no new model" in str(tick(new_models, found.cursor).skip_message)


def test_a_corpus_whose_disk_is_off_is_not_taken_for_an_empty_one(default: RunFolder) -> None:
    (default.root.parents[1] / "corpus").rmdir()
    assert "there is no folder" in str(tick(new_clips, "of yesterday").skip_message)


def test_nothing_is_asked_for_while_a_command_works_on_the_run(
    default: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.0)
    save_small_backbone(default)
    save_adapter(default, "fedavg", 0.01)
    with locked(default.command_lock, "train"):
        assert "(train, process" in str(tick(new_models, None).skip_message)
        assert "(train, process" in str(tick(new_clips, None).skip_message)
        context = dg.build_schedule_context(scheduled_execution_time=NIGHT)
        assert "2026-01-02 is not measured" in str(nightly_evaluation.evaluate_tick(context).skip_message)
    assert tick(new_models, None).run_requests


def test_a_schedule_that_was_off_asks_once(default: RunFolder) -> None:
    """Dagster makes up for every missed tick of a job with partitions, and else for the last alone."""
    assert defs.resolve_job_def(jobs.NIGHTLY).partitions_def is None


@pytest.mark.parametrize(
    ("tick_in_utc", "night"),
    [
        ("2026-03-28T01:30", "2026-03-28"),
        ("2026-03-29T01:00", "2026-03-29"),  # there is no half past two: Dagster asks at three
        ("2026-10-25T01:30", "2026-10-25"),  # twice half past two: Dagster asks at the second
        ("2026-07-01T22:15", "2026-07-02"),  # a quarter past midnight is the next day already
    ],
)
def test_a_night_has_the_date_of_the_schedules_own_clock(
    default: RunFolder, monkeypatch: pytest.MonkeyPatch, tick_in_utc: str, night: str
) -> None:
    save_small_backbone(default)
    save_adapter(default, "fedavg", 0.01)
    monkeypatch.setattr(schedules, "_nightly", NightlySettings(time_zone="Europe/Vienna"))
    context = dg.build_schedule_context(scheduled_execution_time=datetime.fromisoformat(f"{tick_in_utc}+00:00"))
    (request,) = nightly_evaluation.evaluate_tick(context).run_requests or []
    assert request.run_key == night


def save_small_backbone(run: RunFolder) -> None:
    small_backbone().save(run.model("backbone"))
