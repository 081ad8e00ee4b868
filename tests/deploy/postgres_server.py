"""A Postgres server of a test's own: a data folder, a free port, one user; gone with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.live_dagster import free_port

PASSWORD = "only-here"
DEBIAN = "/usr/lib/postgresql"


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`: on the PATH, or where Debian puts the newest."""
    places = [Path(found).resolve().parent for name in ("postgres",) if (found := shutil.which(name))]
    places += sorted(Path(DEBIAN).glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """The environment that deploy/dagster.yaml reads, of a running server; skips where there is no such program."""
    found = binaries()
    if found is None:
        pytest.skip("no Postgres server here: Debian's package `postgresql` brings one")
    user = None
    folder.mkdir(parents=True)
    if os.geteuid() == 0:  # Postgres refuses to run as root
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
        for parent in folder.parents:
            if parent != Path("/") and parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    data, secret, port = folder / "data", folder / "password", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    options: dict[str, Any] = {"user": user, "cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}}
    subprocess.run(
        [found / "initdb", "-D", data, "-U", "privfedtalk", "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8"],
        check=True, capture_output=True, **options,
    )  # fmt: skip
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [found / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", folder],
            stdout=log, stderr=subprocess.STDOUT, **options,
        )  # fmt: skip
    own = {"HOST": "127.0.0.1", "PORT": str(port), "USER": "privfedtalk", "PASSWORD": PASSWORD, "DB": "postgres"}
    try:
        _wait(found, port, folder / "log.txt")
        yield {f"PRIVFEDTALK_POSTGRES_{name}": value for name, value in own.items()}
    finally:
        process.terminate()
        process.wait(20)


def _wait(found: Path, port: int, log: Path) -> None:
    for _ in range(100):
        ready = subprocess.run([found / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True)
        if ready.returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError(f"Postgres does not answer: {log.read_text()}")
