"""Dagster's own processes on a home and a run of their own, as an operator starts them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Home:
    """A folder with the instance's configuration and the parameters of the run that Dagster works on by itself."""

    folder: Path
    environment: dict[str, str]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def make_home(folder: Path, profile: str, settings: dict[str, Any], instance: dict[str, Any] | None = None) -> Home:
    """The project's own dagster.yaml with storage below `folder`, and `instance` on top."""
    folder.mkdir(parents=True, exist_ok=True)
    values = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    values["storage"] = {"sqlite": {"base_dir": str(folder / "storage")}}
    values["local_artifact_storage"]["config"]["base_dir"] = str(folder / "artifacts")
    values["compute_logs"]["config"]["base_dir"] = str(folder / "compute_logs")
    (folder / "dagster.yaml").write_text(yaml.safe_dump(values | (instance or {})))
    (folder / "params.yaml").write_text(json.dumps({"profile": profile, "set": settings}))
    own = {"DAGSTER_HOME": str(folder), "PRIVFEDTALK_PARAMS": str(folder / "params.yaml"), "OMP_NUM_THREADS": "1"}
    return Home(folder, {**os.environ, **own, "PYTHONPATH": str(PROJECT)}, folder / "log.txt")


class Talkative(Protocol):
    """Whatever has a log."""

    @property
    def said(self) -> str: ...


@contextmanager
def running(home: Home, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of this environment in a session of its own, which ends with the block, children included."""
    with home.log.open("ab") as log:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=PROJECT, env=home.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        for sign in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
                process.wait(15)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


def until(ready: Callable[[], Any], seconds: float, home: Talkative, what: str) -> Any:
    """What `ready` gives once that is true; a failure shows the end of the processes' log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} was waited for {seconds:.0f} s in vain:\n{home.said}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(port: int, query: str, **variables: Any) -> dict[str, Any] | None:
    """A GraphQL query; None while nobody answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None
