"""Write files whole or not at all, and remove what killed processes left half written.

A temporary file lies beside its target as `.<name>.<process>-<machine>.partial`. So several processes, and several
machines on one network folder, may write at once, and `sweep` knows which process a temporary file belongs to.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError, UnwritableError

MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
FORGOTTEN_SECONDS = 24 * 3600.0
"""Another machine's temporary files are removed after a day: whether its process lives cannot be asked from here."""

_begun: deque[Path] = deque(maxlen=1000)
"""Temporary files that this process has named, the newest last."""

_CONTINUES = "and give the same command again: it goes on where it stopped"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` at the end; where the body raises, `path` stays as it was.

    Raises UnwritableError where the disk refuses.
    """
    partial = partial_of(path)
    try:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all, as UTF-8 on every system."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, UTF-8; a last line that an interruption cut short is left out.

    Raises CorruptFileError where another line is no object.
    """
    *whole, last = path.read_bytes().split(b"\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate([*whole, last] if last else whole, start=1):
        try:
            record = json.loads(line.decode("utf-8"))
            if not isinstance(record, dict):
                raise ValueError("no record")
        except ValueError as error:
            if number > len(whole):
                break
            raise CorruptFileError(
                f"line {number} of {path} cannot be read: {error}", remedy="put the whole file back, or make it anew"
            ) from error
        found.append(record)
    return found


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which replaces `path` at the end; where the body raises, `path` stays as it was.

    Where `path` is a link, the folder that it leads to is replaced, and the link stays. A killed process leaves the old
    folder or none, never some files of each. Raises UnwritableError where the disk refuses.
    """
    path = path.resolve() if path.is_symlink() else path
    partial = partial_of(path)
    sweep(path.parent)
    try:
        with writing(path.parent):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            remove_folder(path, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(path: Path, successor: Path | None = None) -> None:
    """Remove a folder in one step, so that nobody finds half of it; `successor`, where given, takes its place."""
    old = partial_of(path, "old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.replace(old)
    if successor is not None:
        successor.replace(path)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn any OSError of the body into an UnwritableError that names `folder`."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> UnwritableError:
    """The UnwritableError for a system error: it names the folder, the cause, and how to go on."""
    if error.errno in _FULL:
        return UnwritableError(f"the disk that holds {folder} is full", remedy=f"free some space {_CONTINUES}")
    if error.errno == errno.EFBIG:
        return UnwritableError(
            f"{folder} cannot be written: a file grew past the limit for one file",
            remedy=f"raise the limit (`ulimit -f`) {_CONTINUES}",
        )
    return UnwritableError(
        f"{folder} cannot be written: {error.strerror or error}",
        remedy=f"mend that or choose another --out {_CONTINUES}",
    )


def partial_of(path: Path, kind: str = "partial") -> Path:
    """The temporary neighbour of `path` that belongs to this process."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{MACHINE}.{kind}")
    if kind != "old":  # an old folder may be the only copy until its successor is in place
        _begun.append(partial)
    return partial


def remove_unfinished() -> None:
    """Remove this process's temporary files; for a process that ends without leaving the bodies that write them."""
    for partial in list(_begun):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with suppress(OSError):
                partial.unlink()


def sweep(folder: Path) -> None:
    """Remove the temporary files in `folder` whose process has ended; those of running processes stay."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(".") and entry.suffix in (".partial", ".old") and _abandoned(entry):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _abandoned(entry: Path) -> bool:
    process, _, machine = entry.stem.rpartition(".")[2].partition("-")
    if machine == MACHINE and process.isdecimal():
        return not _lives(int(process))
    try:
        return time.time() - entry.stat().st_mtime > FORGOTTEN_SECONDS
    except OSError:
        return False  # its writer has just moved or removed it


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
