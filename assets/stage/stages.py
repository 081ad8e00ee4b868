"""A stage of a run: timed, recorded, and skipped if nothing that it depends on has changed.

A small JSON file for each stage (`stages/<name>.json`) holds its seconds, its peak memory, and the versions of what it
was made from and of what came out. So an interrupted run goes on where it stopped, and `results.json` can list the
seconds of every stage.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from common.files import write_text
from common.folders import RunFolder
from common.locks import locked

SAMPLE_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
"""How long a stage that is due waits for other processes that read its outputs, such as one that loads a model."""


@dataclass(frozen=True)
class StageRecord:
    """What is remembered of a finished stage."""

    name: str
    inputs: str
    version: str
    seconds: float
    peak_memory_gb: float


@dataclass
class Stage:
    """A stage as its body sees it: `due` says whether there is work, `inputs` is a digest of all that it depends on.

    `version` and `seconds` are filled in when the stage ends.
    """

    name: str
    due: bool
    inputs: str
    version: str = ""
    seconds: float = 0.0


@contextmanager
def stage(
    folder: RunFolder,
    name: str,
    *,
    inputs: Sequence[str],
    outputs: Callable[[], Iterable[Path]],
    keep: bool,
    parts: Sequence[str] | None = None,
    after: Sequence[str] = (),
) -> Iterator[Stage]:
    """Time the body, then record it under `name`.

    `inputs` are fingerprints of all that decides the result; `outputs` finds the files and folders that are
    the result, whose content is its version. With `keep`, a stage whose inputs and outputs equal its record is not
    due: the body is expected to look at `Stage.due`. A body that raises leaves no record, so the stage is due again.
    A body that works on some `parts` only is always due. If the record was up to date before, it gets the version of
    the new outputs; otherwise it stays outdated, so that the whole stage is due again.

    While the body runs, this process alone may write the stage, or its parts, and no process may write the stages
    `after` which it comes. Raises BusyError if another process works on any of these.
    """
    wanted = digest(inputs)

    def remembered() -> StageRecord | None:
        """The record, if inputs and outputs still equal it."""
        record = read_record(folder, name)
        same = record and record.inputs == wanted and record.version == content_version(folder.root, outputs())
        return record if same else None

    with ExitStack() as held:
        for earlier in after:
            held.enter_context(reading(folder, earlier, by=name))
        if parts is not None:
            held.enter_context(reading(folder, name, by=name))
            for one in parts:
                held.enter_context(locked(folder.lock(f"{name}-{one}"), f"{name} {one}"))
            before = remembered()
            sys.stderr.write(f"{name}: a part of it started\n")
            part = Stage(name, due=True, inputs=wanted)
            yield part
            part.version = content_version(folder.root, outputs())
            if before:
                _write(_path(folder, name), replace(before, version=part.version))
            return
        kept = None
        if keep:
            with reading(folder, name, by=name):
                kept = remembered()
        if kept is None:
            held.enter_context(locked(folder.lock(name), name, patience=PATIENCE_SECONDS))
            kept = remembered() if keep else None  # whoever had the lock may have done the same work
        if kept is not None:
            sys.stderr.write(f"{name}: unchanged, kept ({kept.seconds:.0f} s saved)\n")
            yield Stage(name, due=False, inputs=wanted, version=kept.version, seconds=kept.seconds)
            return
        _path(folder, name).unlink(missing_ok=True)
        sys.stderr.write(f"{name}: started\n")
        current = Stage(name, due=True, inputs=wanted)
        with _PeakMemory() as memory:
            started = time.monotonic()
            yield current
            current.seconds = time.monotonic() - started
        current.version = content_version(folder.root, outputs())
        record = StageRecord(name, wanted, current.version, round(current.seconds, 2), round(memory.peak_gb, 3))
        _write(_path(folder, name), record)
        sys.stderr.write(f"{name}: done in {current.seconds:.1f} s, at most {memory.peak_gb:.2f} GB\n")


def reading(folder: RunFolder, name: str, by: str) -> AbstractContextManager[None]:
    """A lock under which no process changes the outputs of the stage `name`; raises BusyError if one is doing so."""
    return locked(folder.lock(name), by, shared=True)


def read_record(folder: RunFolder, name: str) -> StageRecord | None:
    path = _path(folder, name)
    return StageRecord(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def read_records(folder: RunFolder) -> dict[str, StageRecord]:
    """All finished stages by name, in the order in which they finished."""
    paths = sorted((folder.root / "stages").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    records = [StageRecord(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return {record.name: record for record in records}


def digest(parts: Iterable[str]) -> str:
    """Sixteen hex digits of a sequence of strings; where one string ends matters."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def content_version(root: Path, paths: Iterable[Path]) -> str:
    """Sixteen hex digits of the names, relative to `root`, and the bytes of all files at or below `paths`."""
    total = hashlib.sha256()
    for path in sorted(paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
                total.update(f"{os.path.relpath(file, root)} {content}\n".encode())
    return total.hexdigest()[:16]


class _PeakMemory:
    """The largest resident memory of this process and its children together while the block runs.

    Pages that forked workers share are counted once for each, so the figure is an upper bound.
    """

    def __enter__(self) -> _PeakMemory:
        self.peak_gb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        here = psutil.Process()
        while True:
            total = 0
            for process in (here, *here.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_gb = max(self.peak_gb, total / 1e9)
            if self._ended.wait(SAMPLE_SECONDS):
                return


def _path(folder: RunFolder, name: str) -> Path:
    return folder.root / "stages" / f"{name.replace('/', '-')}.json"


def _write(path: Path, record: StageRecord) -> None:
    write_text(path, json.dumps(asdict(record), indent=1) + "\n")
