"""Runs mutants: tests are collected once, then every mutant is a fork of that process with one function changed.

A fork starts in hundredths of a second, where a new interpreter would import torch for three. The first fork changes
nothing and notes for each test which lines of the targets it runs and how long it takes; a mutant is then shown the
tests that run its line, the quickest first, until one fails.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import inspect
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import settings as hypothesis_settings

from benchmarks.mutants.operators import Mutant
from benchmarks.mutants.targets import FIRST, LEFT_OUT, ROOT, TARGETS, TESTS, read

SLOWEST_TEST_SECONDS = 4.0
MOST_SECONDS = 6.0
"""A mutant that the review expects to survive is shown its tests for so long."""
MOST_SECONDS_IF_UNREVIEWED = 120.0
"""Any other mutant is then shown the rest of its tests, up to this time: a mutant that only a later test notices is no
survivor, however slow the machine was when the tests were timed."""
_KILLED, _SURVIVED = "killed", "survived"

OnResult: TypeAlias = Callable[[Mutant, str, str], None]
_Live: TypeAlias = dict[tuple[str, str, int], list[FunctionType]]
"""Functions by file, qualified name and first line."""


class _Running(NamedTuple):
    """A fork that runs a mutant's tests; `last` if no further tests wait in case the mutant survives."""

    mutant: Mutant
    folder: Path
    until: float
    last: bool


@dataclass
class Baseline:
    """Measured on the unchanged code: how long each test takes, and which lines of which target it runs."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    """The modules that tests import while they run; they are imported beforehand, for every fork."""
    files: dict[str, str] = field(default_factory=dict)
    """The digest of each test file; the tests of a changed file are measured again."""

    def tests_of(self, mutant: Mutant, most_seconds: float = MOST_SECONDS) -> list[str]:
        """The tests that run the mutant's line (or its function, if the line is part of a longer statement), quickest
        first. Tests in `FIRST`, then quick ones, are chosen until they take `most_seconds` together."""
        wanted = {mutant.line}
        found = self._running(mutant.file, wanted, most_seconds)
        return found or self._running(mutant.file, set(function_lines(mutant)), most_seconds)

    def _running(self, file: str, wanted: set[int], most_seconds: float) -> list[str]:
        found = [test for test, lines in self.lines.items() if wanted & set(lines.get(file, ()))]
        kept, total = [], 0.0
        first = {f"test_{name}.py": place for place, name in enumerate(FIRST.get(file, ()))}
        places = {test: first.get(Path(_file_of(test)).name, len(first)) for test in found}
        for test in sorted(found, key=lambda test: (places[test], self.seconds[test])):
            if self.seconds[test] <= SLOWEST_TEST_SECONDS and total + self.seconds[test] <= most_seconds:
                total += self.seconds[test]
                kept.append(test)
        kept.sort(key=self.seconds.__getitem__)
        return kept


def function_lines(mutant: Mutant) -> range:
    """The lines of the innermost function of the original that holds the mutant's line; empty outside functions."""
    best = range(0)
    for code in _functions(compile(read(mutant.file), mutant.file, "exec")):
        last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
        if code.co_firstlineno <= mutant.line <= last:
            best = range(code.co_firstlineno, last + 1)
    return best


def run_mutants(
    mutants: Sequence[Mutant], workers: int, on_result: OnResult, kept: Path, reviewed: Collection[str] = ()
) -> None:
    """Run each mutant; `on_result` takes it, "killed" or "survived", and the test that noticed it.

    kept: where the baseline of these sources is kept. reviewed: names of mutants that are expected to survive; all
    others are shown all tests that run their line. RuntimeError if a test fails on the unchanged code.
    """
    os.chdir(ROOT)
    hypothesis_settings.register_profile("mutants", database=None, derandomize=True, deadline=None, max_examples=30)
    hypothesis_settings.load_profile("mutants")
    there = [test for test in TESTS if (ROOT / test).exists()]
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    plugin = _Plugin(mutants, workers, on_result, kept, reviewed)
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *ignored, *there], plugins=[plugin])
    if plugin.fault or status not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(plugin.fault or f"the tests could not be collected (pytest ended with {status})")


class _Plugin:
    """Takes the place of pytest's loop over tests: the same loop runs in forks, over the tests of one mutant each."""

    def __init__(
        self,
        mutants: Sequence[Mutant],
        workers: int,
        on_result: OnResult,
        kept: Path,
        reviewed: Collection[str],
    ) -> None:
        self._mutants, self._workers, self._on_result, self._kept = mutants, workers, on_result, kept
        self._reviewed = reviewed
        self._child: Path | None = None
        self._trace: dict[str, set[int]] = {}
        self._baseline = Baseline()
        self.fault = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if self._child is not None:
            return None  # pytest's own loop, in a fork
        gc.collect()
        live = _live_functions()
        gc.freeze()  # a fork's collections then leave shared pages alone
        baseline = self._measure(session)
        if baseline is not None:
            for module in baseline.modules:
                with suppress(Exception):  # some exist only as parts of others
                    importlib.import_module(module)
            gc.freeze()
            self._run_all(session, baseline, live)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begun, self._trace = time.process_time(), defaultdict(set)
        result = yield
        self._baseline.seconds[item.nodeid] = time.process_time() - begun
        self._baseline.lines[item.nodeid] = {file: sorted(lines) for file, lines in self._trace.items()}
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._child is not None:
            (self._child / "failed").write_text(f"{report.nodeid}\n{report.longreprtext}")

    def _measure(self, session: pytest.Session) -> Baseline | None:
        """The baseline of these sources: the kept one, with changed tests measured again; None if a test fails."""
        known = Baseline(**json.loads(self._kept.read_text())) if self._kept.exists() else Baseline()
        files = {file: digest_of(ROOT / file) for file in {_file_of(item.nodeid) for item in session.items}}
        changed = [
            item for item in session.items if known.files.get(_file_of(item.nodeid)) != files[_file_of(item.nodeid)]
        ]
        gone = {test for test in known.seconds if known.files.get(_file_of(test)) != files.get(_file_of(test))}
        for each in (known.seconds, known.lines):
            for test in gone & each.keys():
                del each[test]
        folder, before = Path(tempfile.mkdtemp(prefix="mutants-")), set(sys.modules)
        if os.fork() == 0:
            with _fork_ends(folder):
                self._begin(session, folder)
                session.items[:] = changed
                sys.settrace(self._tracer())
                session.config.hook.pytest_runtestloop(session=session)
                sys.settrace(None)
                self._baseline.modules = sorted(set(sys.modules) - before)
                (folder / "baseline.json").write_text(json.dumps(vars(self._baseline)))
        os.wait()
        for failed in (folder / "fault", folder / "failed"):
            if failed.exists():
                self.fault = "on the unchanged code: " + failed.read_text()
                return None
        found = Baseline(**json.loads((folder / "baseline.json").read_text()))
        shutil.rmtree(folder)
        modules = sorted({*known.modules, *found.modules})
        whole = Baseline(known.seconds | found.seconds, known.lines | found.lines, modules, files)
        self._kept.write_text(json.dumps(vars(whole)))
        return whole

    def _tracer(self) -> Callable[[FrameType, str, Any], Any]:
        targets = {str(ROOT / file): file for file in TARGETS}

        def on_line(frame: FrameType, event: str, argument: Any) -> Any:
            self._trace[targets[frame.f_code.co_filename]].add(frame.f_lineno)
            return on_line

        return lambda frame, event, argument: (
            on_line(frame, event, argument) if frame.f_code.co_filename in targets else None
        )

    def _run_all(self, session: pytest.Session, baseline: Baseline, live: _Live) -> None:
        running: dict[int, _Running] = {}
        waiting = [(mutant, False) for mutant in reversed(self._mutants)]
        try:
            self._keep_running(session, baseline, live, waiting, running)
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)

    def _keep_running(
        self,
        session: pytest.Session,
        baseline: Baseline,
        live: _Live,
        waiting: list[tuple[Mutant, bool]],
        running: dict[int, _Running],
    ) -> None:
        items = {item.nodeid: item for item in session.items}
        while waiting or running:
            while waiting and len(running) < self._workers:
                mutant, again = waiting.pop()
                first = baseline.tests_of(mutant)
                every = (
                    first
                    if mutant.identity in self._reviewed
                    else baseline.tests_of(mutant, MOST_SECONDS_IF_UNREVIEWED)
                )
                tests = [test for test in every if test not in first] if again else first
                if not tests:
                    self._on_result(mutant, _SURVIVED, "" if again else "no test runs it")
                    continue
                seconds = sum(baseline.seconds[test] for test in tests)
                enough, limit = 10 + 3 * math.ceil(seconds), 60 + 20 * seconds
                folder = Path(tempfile.mkdtemp(prefix="mutants-"))
                pid = os.fork()
                if pid == 0:
                    with _fork_ends(folder):
                        self._begin(session, folder)
                        resource.setrlimit(resource.RLIMIT_CPU, (enough, enough))
                        session.items[:] = [items[test] for test in tests if test in items]
                        _change(mutant, live)
                        session.config.hook.pytest_runtestloop(session=session)
                running[pid] = _Running(mutant, folder, time.monotonic() + limit, again or len(every) == len(first))
            self._reap(running, waiting)

    def _reap(self, running: dict[int, _Running], waiting: list[tuple[Mutant, bool]]) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            for late in [pid for pid, one in running.items() if time.monotonic() > one.until]:
                os.kill(late, signal.SIGKILL)
            time.sleep(0.01)
        elif pid in running:
            mutant, folder, _, last = running.pop(pid)
            failed = folder / "failed"
            out_of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
            if (folder / "fault").exists():
                self.fault += f"{mutant.identity}\n{(folder / 'fault').read_text()}"
            elif failed.exists():
                self._on_result(mutant, _KILLED, failed.read_text().splitlines()[0])
            elif status == 0 and not last:
                waiting.append((mutant, True))
            elif status == 0:
                self._on_result(mutant, _SURVIVED, "")
            else:
                self._on_result(mutant, _KILLED, "it never ends" if out_of_time else "it ends the process")
            shutil.rmtree(folder, ignore_errors=True)

    def _begin(self, session: pytest.Session, folder: Path) -> None:
        """Prepare a fork: it prints nothing, and has its own temporary folders."""
        self._child = folder
        session.config.pluginmanager.unregister(name="terminalreporter")
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)


def digest_of(*paths: Path) -> str:
    """A digest of the names and contents of files, sixteen hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _file_of(test: str) -> str:
    return test.partition("::")[0]


@contextmanager
def _fork_ends(folder: Path) -> Iterator[None]:
    """End a fork after the body, without the parent's clean-up; an error that is not a test's is left in a file."""
    try:
        yield
    except (pytest.Session.Failed, pytest.Session.Interrupted):
        pass  # `-x` ends the loop in this way, after the failure was noted
    except BaseException:
        (folder / "fault").write_text(traceback.format_exc())
    os._exit(0)


def _live_functions() -> _Live:
    """The functions of the targets that are loaded."""
    targets = {str(ROOT / file): file for file in TARGETS}
    found: _Live = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in targets:
            code = each.__code__
            found[targets[code.co_filename], code.co_qualname, code.co_firstlineno].append(each)
    return found


def _functions(code: CodeType) -> Iterator[CodeType]:
    """The code of a module's functions and of its classes' methods, in their order, with what is nested in them."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & inspect.CO_NEWLOCALS and constant.co_flags & inspect.CO_OPTIMIZED:
                yield constant
            else:  # a class's body
                yield from _functions(constant)


def _change(mutant: Mutant, live: _Live) -> None:
    """Give the loaded functions the mutant's code, so that every importer calls the changed function."""
    path = str(ROOT / mutant.file)
    original = _functions(compile(read(mutant.file), path, "exec"))
    changed = _functions(compile(mutant.source, path, "exec"))
    for before, after in _pairs(original, changed):
        if _same(before, after):
            continue
        for function in live[mutant.file, before.co_qualname, before.co_firstlineno]:
            function.__code__ = after


def _pairs(original: Iterable[CodeType], changed: Iterable[CodeType]) -> Iterator[tuple[CodeType, CodeType]]:
    for before, after in zip(original, changed, strict=True):
        assert before.co_qualname == after.co_qualname
        yield before, after


def _same(before: CodeType, after: CodeType) -> bool:
    if len(before.co_consts) != len(after.co_consts):
        return False
    constants = all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else (type(a), a) == (type(b), b)
        for a, b in zip(before.co_consts, after.co_consts, strict=True)
    )
    return constants and before.co_code == after.co_code and before.co_names == after.co_names
