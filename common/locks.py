"""Lock files, so that two commands at once do not spoil each other's work.

The system holds a lock only while its process lives (flock): a killed process leaves none, and nothing has to be
cleaned up. The file's text tells people who holds the lock. On a network folder that forwards locks (NFS) other
machines are kept out too; on a disk without locks the work goes on after a warning.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import psutil

from common.errors import PrivFedTalkError, UnwritableError
from common.files import writing

PATIENCE_SECONDS = 1.0
"""How long to wait for a lock by default: some are held for a moment only, while files are compared."""
_POLL_SECONDS = 0.02
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class BusyError(PrivFedTalkError):
    """Another process holds the lock that this one needs."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, and since when; `began` is its start, because process numbers are reused."""

    process: int
    machine: str
    began: float
    what: str
    since: float

    @property
    def alive(self) -> bool:
        """Whether the process still runs; assumed for a process of another machine, which cannot be asked."""
        if self.machine != platform.node():
            return True
        try:
            return abs(psutil.Process(self.process).create_time() - self.began) < 1.0
        except psutil.Error:
            return False

    def __str__(self) -> str:
        there = "" if self.machine == platform.node() else f" on {self.machine}"
        return f"{self.what}, process {self.process}{there}, since {datetime.fromtimestamp(self.since):%Y-%m-%d %H:%M}"


@contextlib.contextmanager
def locked(path: Path, what: str, shared: bool = False, patience: float | None = None) -> Iterator[None]:
    """Hold the lock `path` while the body runs; `what` names the work to other processes that find it locked.

    Several processes may hold it `shared`; meanwhile none can hold it alone. Raises BusyError where others hold it for
    longer than `patience` seconds (by default `PATIENCE_SECONDS`), and UnwritableError where the file cannot be made.
    A shared lock that cannot be made is skipped: where nothing can be written, nobody changes what is read.
    """
    with contextlib.ExitStack() as opened:
        try:
            with writing(path.parent):
                path.parent.mkdir(parents=not shared, exist_ok=True)  # a reader creates no run
                file = opened.enter_context(path.open("a+", encoding="utf-8", errors="replace"))
        except UnwritableError:
            if not shared:
                raise
        else:
            if _take(file, shared, path, PATIENCE_SECONDS if patience is None else patience):
                _sign(file, what, alone=not shared)
                if not shared:
                    opened.callback(file.truncate, 0)  # this process may live on, and holds it no more
        yield


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait for the lock `path` and hold it while the body runs; for work of a moment.

    Where the file cannot be made, the body runs without a lock: its own writing then raises the error.
    """
    with contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(path.open("a+", encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                _warn_unsupported(path, error)
        yield


def holders(path: Path) -> list[Holder]:
    """The living processes that last signed the lock `path`; most often, but not always, they still hold it."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # some network folders let nobody read a locked file
        return []
    for line in lines:
        try:
            holder = Holder(**json.loads(line))
        except (ValueError, TypeError):
            continue  # being written
        if holder.alive:
            found.append(holder)
    return found


def busy(path: Path) -> str:
    """Who holds the lock `path` alone, in words; empty where nobody does."""
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError:
        return ""
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder_names(path)
        except OSError:
            return ""
    return ""


def _take(file: IO[str], shared: bool, path: Path, patience: float) -> bool:
    """Lock the open file; False where the disk knows no locks."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise BusyError(
                    f"another command works on {path.parent.parent}: {_holder_names(path)}",
                    "wait until it has ended, or end it; then give the same command again",
                ) from error
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            _warn_unsupported(path, error)
            return False


def _warn_unsupported(path: Path, error: OSError) -> None:
    """Warn that the disk has no locks; any other error is raised."""
    if error.errno not in _UNSUPPORTED:
        raise error
    sys.stderr.write(
        f"the disk of {path.parent.parent} knows no locks ({error.strerror}): run one command at a time there\n"
    )


def _sign(file: IO[str], what: str, alone: bool) -> None:
    """Write into the file who holds the lock; an exclusive holder first removes the lines of earlier ones."""
    own = Holder(os.getpid(), platform.node(), psutil.Process().create_time(), what, time.time())
    if alone:
        file.truncate(0)
    file.write(json.dumps(asdict(own)) + "\n")
    file.flush()


def _holder_names(path: Path) -> str:
    return "; ".join(map(str, dict.fromkeys(holders(path)))) or "a process that does not say its name"
