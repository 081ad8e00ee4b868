"""Stages are timed, remembered, and kept only while all they depend on is unchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from assets.stage import stages
from assets.stage.stages import Stage, content_version, digest, read_record, read_records, stage
from common import locks
from common.folders import RunFolder
from common.locks import BusyError


def run_once(folder: RunFolder, inputs: list[str], keep: bool = True, text: str = "made") -> bool:
    """Whether the stage was due; when it was, it writes its output."""
    output = folder.root / "out.txt"
    with stage(folder, "models/vae", inputs=inputs, outputs=lambda: [output], keep=keep) as current:
        if current.due:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text)
    return current.due


def test_a_stage_is_kept_until_an_input_or_output_changes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert run_once(folder, ["a"])
    assert not run_once(folder, ["a"])
    assert run_once(folder, ["b"])
    assert run_once(folder, ["b"], keep=False)
    (tmp_path / "out.txt").unlink()
    assert run_once(folder, ["b"])
    (tmp_path / "out.txt").write_text("somebody else's")
    assert run_once(folder, ["b"])
    assert not run_once(folder, ["b"])


def test_a_stage_that_fails_is_due_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    run_once(folder, ["a"])
    with (
        pytest.raises(RuntimeError, match="interrupted"),
        stage(folder, "models/vae", inputs=["b"], outputs=list, keep=True),
    ):
        raise RuntimeError("interrupted")
    assert read_record(folder, "models/vae") is None
    assert run_once(folder, ["a"])


def test_the_record_tells_seconds_memory_and_version(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    run_once(folder, ["a"])
    record = read_records(folder)["models/vae"]
    assert record.seconds >= 0
    assert 0.01 < record.peak_memory_gb < 64
    assert record.version == content_version(tmp_path, [tmp_path / "out.txt"])


def test_versions_follow_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = content_version(tmp_path, [tmp_path])
    (tmp_path / "a").rename(tmp_path / "b")
    second = content_version(tmp_path, [tmp_path])
    (tmp_path / "b").write_text("2")
    assert len({first, second, content_version(tmp_path, [tmp_path])}) == 3
    assert digest(["ab", "c"]) != digest(["a", "bc"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a lock for long."""
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(stages, "PATIENCE_SECONDS", 0.05)


def test_nobody_changes_what_another_stage_reads_and_nobody_does_the_same_twice_at_once(
    tmp_path: Path, impatient: None
) -> None:
    folder = RunFolder(tmp_path)
    run_once(folder, ["a"])

    def training(method: str) -> AbstractContextManager[Stage]:
        return stage(folder, f"federation/{method}", inputs=[], outputs=list, keep=True, after=["models/vae"])

    with training("fedavg"):
        assert not run_once(folder, ["a"])  # it is as it was: nothing to change
        with pytest.raises(BusyError, match="federation/fedavg, process"):
            run_once(folder, ["b"])
        with pytest.raises(BusyError, match="federation/fedavg, process"), training("fedavg"):
            pass
        with training("scaffold") as other:
            assert other.due
    assert not run_once(folder, ["a"])
    with training("fedavg") as again:
        assert not again.due


def test_other_buckets_may_be_made_at_once_and_the_same_ones_not(tmp_path: Path, impatient: None) -> None:
    folder = RunFolder(tmp_path)

    def crops(parts: list[str] | None) -> AbstractContextManager[Stage]:
        return stage(folder, "crops", inputs=[], outputs=list, keep=True, parts=parts)

    with crops(["000", "001"]), crops(["002"]):
        with pytest.raises(BusyError, match="crops 001, process"), crops(["001", "003"]):
            pass
        with pytest.raises(BusyError), crops(None):
            pass
    with crops(None), pytest.raises(BusyError), crops(["002"]):
        pass
