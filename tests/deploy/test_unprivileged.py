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
home={folder}/home data={folder}/data python={python}
# A home that others may not enter holds the interpreter: what they need of it is shown in an empty one.
mkdir -p /mnt/python; mount --bind "$python" /mnt/python
case "$python" in /root/*)
  mount -t tmpfs tmpfs /root; mkdir -p "$python"; mount --bind /mnt/python "$python"; chmod 755 /root;;
esac
mount --bind {folder} /mnt; mount --bind {folder}/tmp /tmp
for place in $(awk '$2 ~ "^/" && $2 !~ "^/(proc|sys|dev|tmp|mnt)" {{print $2}}' /proc/mounts); do
  mount -o remount,ro,bind "$place" 2>/dev/null || true
done
exec setpriv --reuid {user} --regid {user} --clear-groups --bounding-set=-all --no-new-privs env HOME=/mnt/home "$@"
"""


@pytest.fixture
def cage(tmp_path: Path) -> list[str]:
    """The words that go before a command: it then runs in the cage, with `/mnt/{home,data}` and `/tmp` to write to."""
    needed = ("unshare", "setpriv")
    if os.geteuid() or any(shutil.which(name) is None for name in needed):
        pytest.skip("needs root, unshare and setpriv")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    for name in ("home", "data", "tmp"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, int(USER), int(USER))
    tmp_path.chmod(0o755)
    python = Path(sys.executable).resolve().parents[1]
    return ["unshare", "-m", "bash", "-c", CAGE.format(folder=tmp_path, python=python, user=USER), "cage"]


def test_the_cage_is_one(cage: list[str]) -> None:
    seen = "id -u; grep CapBnd /proc/self/status; touch /etc/x /usr/x 2>/dev/null; touch /tmp/a /mnt/home/a /mnt/data/a"
    done = subprocess.run([*cage, "bash", "-c", seen], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [USER, "CapBnd:", "0" * 16] and not Path("/etc/x").exists()


def test_a_run_needs_no_more_than_the_cage_gives(cage: list[str], tmp_path: Path) -> None:
    pytest.importorskip("dagster_postgres", reason="needs the extra `deploy`")
    (tmp_path / "dagster").mkdir()
    shutil.copy(PROJECT / "deploy" / "dagster.yaml", tmp_path / "dagster" / "dagster.yaml")
    values = SMALLEST | {"run": "deployed", "data": "/mnt/data"}
    (tmp_path / "params.yaml").write_text(
        "profile: small\nset:\n" + "".join(f"  {name}: {value}\n" for name, value in values.items())
    )
    with server(tmp_path / "postgres") as own:
        told = own | {
            "DAGSTER_HOME": "/mnt/dagster", "PRIVFEDTALK_LOGS": "/mnt/data/.logs",
            "PRIVFEDTALK_PARAMS": "/mnt/params.yaml", "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [BIN / "dagster", "asset", "materialize", "-m", "pipelines.definitions", "--select", "group:corpus"]
        done = subprocess.run(
            [*cage, *command], cwd=PROJECT, env={**os.environ, **told}, capture_output=True, text=True, timeout=600
        )
    assert done.returncode == 0, done.stderr[-3000:]
    made = tmp_path / "data" / "deployed" / "manifest.parquet"
    assert made.exists() and made.stat().st_uid == int(USER)
