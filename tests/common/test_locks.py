"""Two processes on one thing: one works, the other is told who does; and nobody waits for the dead."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import locks
from common.locks import BusyError, busy, holders, locked, one_at_a_time

HOLD = """
import sys
from pathlib import Path
from common.locks import locked
with locked(Path(sys.argv[1]), "train", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


def holding(path: Path, how: str = "alone") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_works_and_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".locks" / "command.lock"
    first = holding(path)
    said = rf"works on {tmp_path}/run: train, process {first.pid}, since 20"
    with pytest.raises(BusyError, match=said) as caught, locked(path, "prepare"):
        pass
    assert "wait until it has ended" in caught.value.remedy
    assert f"process {first.pid}" in busy(path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert busy(path) == ""
    with locked(path, "prepare"):
        (own,) = holders(path)
        assert (own.process, own.what) == (os.getpid(), "prepare")


def test_readers_share_and_keep_a_writer_out(tmp_path: Path) -> None:
    path = tmp_path / ".locks" / "shards.lock"
    reader = holding(path, "shared")
    with locked(path, "evaluation", shared=True):
        assert {holder.what for holder in holders(path)} == {"train", "evaluation"}
        assert busy(path) == ""  # nobody has it alone
    with pytest.raises(BusyError, match=f"train, process {reader.pid}"), locked(path, "shards"):
        pass
    reader.communicate()
    with locked(path, "shards"), pytest.raises(BusyError), locked(path, "evaluation", shared=True):
        pass


def test_a_number_given_out_again_and_half_a_line_name_nobody(tmp_path: Path) -> None:
    path = tmp_path / ".locks" / "command.lock"
    with locked(path, "train"):
        line = json.loads(path.read_text())
        path.write_text(json.dumps({**line, "began": 1.0}) + '\n{"process": 12')
        assert holders(path) == []
        with pytest.raises(BusyError, match="a process that does not say its name"), locked(path, "train"):
            pass
        path.write_text(json.dumps({**line, "machine": "elsewhere"}) + "\n")
        with pytest.raises(BusyError, match=f"process {os.getpid()} on elsewhere"), locked(path, "train"):
            pass


def test_a_disk_without_locks_is_said_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / ".locks" / "command.lock", "train"), one_at_a_time(tmp_path / ".locks" / "other.lock"):
        said = capsys.readouterr().err
    assert said.count(f"the disk of {tmp_path} knows no locks (No locks available)") == 2


def test_who_only_reads_needs_no_folder_to_write_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    reached = []
    with locked(tmp_path / "file" / "a.lock", "generate", shared=True):
        reached.append("shared")
    with one_at_a_time(tmp_path / "file" / "a.lock"):
        reached.append("one at a time")
    with locked(tmp_path / "nowhere" / ".locks" / "a.lock", "generate", shared=True):
        assert not (tmp_path / "nowhere").exists()
    assert reached == ["shared", "one at a time"] and busy(tmp_path / "file" / "a.lock") == ""
