"""The services' cage without Docker: a read-only root, a user without capabilities, and no more to write to than
compose.yaml gives. Tried in a mount namespace, for which it takes root on Linux; `test_compose` tries the containers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.postgres_server import server
from tests.pipelines.live_dagster import BIN, PROJECT
from tests.ui.test_browser import SMALLEST

pytestmark = pytest.mark.slow

USER = "10001"
CAGE = """
set -e
# A home that others may not enter may hold the interpreter: what they need of it is shown in an empty one.
mount --bind {python} {folder}/python
if [ {hidden} = yes ]; then
  mount -t tmpfs tmpfs {top}; chmod 755 {top}; mkdir -p {python}; mount --bind {folder}/python {python}
fi
mount --bind {folder} {seen}; mount --bind {folder}/tmp /tmp
for place in $(awk '$2 ~ "^/" && $2 !~ "^/(proc|sys|dev|tmp|srv)" {{print $2}}' /proc/mounts); do
  mount -o remount,ro,bind "$place" || true
done 2>/dev/null
exec setpriv --reuid {user} --regid {user} --clear-groups --bounding-set=-all --no-new-privs env HOME={seen}/home "$@"
"""
SEEN = "/srv"
"""Where the cage shows the test's folder: nothing of it but `home` and `data` may be written to."""


@pytest.fixture
def cage(tmp_path: Path) -> list[str]:
    """The words that go before a command: it then runs in the cage, with `/srv/{home,data}` and `/tmp` to write to."""
    needed = ("unshare", "setpriv")
    if os.geteuid() or any(shutil.which(name) is None for name in needed):
        pytest.skip("needs root, unshare and setpriv")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    (tmp_path / "python").mkdir()
    for name in ("home", "data", "tmp"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, int(USER), int(USER))
    tmp_path.chmod(0o755)
    python = Path(sys.executable).resolve().parents[1]
    top = Path("/", python.parts[1])
    hidden = "no" if top.stat().st_mode & 0o005 == 0o005 else "yes"
    made = CAGE.format(folder=tmp_path, python=python, top=top, hidden=hidden, user=USER, seen=SEEN)
    return ["unshare", "-m", "bash", "-c", made, "cage"]


def test_the_cage_is_one(cage: list[str], tmp_path: Path) -> None:
    seen = "id -u; grep CapBnd /proc/self/status; touch /etc/x /usr/x /srv/x 2>/dev/null; "
    seen += "touch /tmp/a /srv/home/a /srv/data/a"
    done = subprocess.run([*cage, "bash", "-c", seen], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.split() == [USER, "CapBnd:", "0" * 16]
        and not Path("/etc/x").exists()
        and not (tmp_path / "x").exists()
    )


def test_a_run_needs_no_more_than_the_cage_gives(cage: list[str], tmp_path: Path) -> None:
    pytest.importorskip("dagster_postgres", reason="needs the extra `deploy`")
    (tmp_path / "dagster").mkdir()
    shutil.copy(PROJECT / "deploy" / "dagster.yaml", tmp_path / "dagster" / "dagster.yaml")
    values = SMALLEST | {"run": "deployed", "data": "/srv/data"}
    (tmp_path / "params.yaml").write_text(
        "profile: small\nset:\n" + "".join(f"  {name}: {value}\n" for name, value in values.items())
    )
    with server(tmp_path / "postgres") as own:
        told = own | {
            "DAGSTER_HOME": "/srv/dagster", "PRIVFEDTALK_LOGS": "/srv/data/.logs",
            "PRIVFEDTALK_PARAMS": "/srv/params.yaml", "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [str(BIN / "dagster"), "asset", "materialize", "-m", "pipelines.definitions"]
        command += ["--select", "group:corpus"]
        done = subprocess.run(
            [*cage, *command], cwd=PROJECT, env={**os.environ, **told}, capture_output=True, text=True, timeout=600
        )
    assert done.returncode == 0, done.stderr[-3000:]
    made = tmp_path / "data" / "deployed" / "manifest.parquet"
    assert made.exists() and made.stat().st_uid == int(USER)
