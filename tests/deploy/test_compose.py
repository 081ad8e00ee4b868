"""deploy/ for real: the image is built, its services come up, and a job trains on Ray with all of it in Postgres.

Where the two base images cannot be pulled, a Debian 12 with Python 3.11, and a Postgres 15 that is set up by the same
variables, may be given their names.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.stage.partitions import BUCKETS
from tests.pipelines.live_dagster import PROJECT, ask, free_port, until

pytestmark = pytest.mark.slow

RUN = "{ runsOrError { ... on Runs { results { runId status jobName } } } }"
LOADED = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
IMAGE = "privfedtalk-test"
COMPOSE_VERSION = ["docker", "compose", "version"]
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}


def objection() -> str | None:
    """Why nothing can be tried here; None where it can."""
    if shutil.which("docker") is None:
        return "Docker is not installed"
    if subprocess.run(COMPOSE_VERSION, capture_output=True).returncode:
        return "Docker has no Compose"
    return "no Docker daemon runs" if subprocess.run(["docker", "info"], capture_output=True).returncode else None


@dataclass(frozen=True)
class Deployment:
    """The services of compose.yaml with a small run's parameters, on folders and a port of their own."""

    folder: Path
    port: int
    environment: dict[str, str]

    def compose(self, *words: str, seconds: float = 1800) -> subprocess.CompletedProcess[str]:
        files = ["-f", str(PROJECT / "deploy" / "compose.yaml"), "-f", str(self.folder / "more.yaml")]
        return subprocess.run(
            ["docker", "compose", *files, *words],
            env=self.environment, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip

    def do(self, *words: str) -> str:
        done = self.compose(*words)
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    @property
    def said(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "60").stdout[-8000:]

    def launch(self, job: str, first: str, last: str) -> str:
        """Put a job into the queue, as an operator does; its status when it has ended."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        launching = ["dagster", "job", "launch", "--workspace", "deploy/workspace.yaml", "--job", job]
        self.do("exec", "-T", "daemon", *launching, "--tags", json.dumps(tags))

        def status() -> str | None:
            told = ask(self.port, RUN)
            ended = [one["status"] for one in told["runsOrError"]["results"] if one["jobName"] == job] if told else []
            return ended[0] if ended and ended[0] in FINISHED else None

        return str(until(status, 900, self, f"the end of {job}"))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if reason := objection():
        pytest.skip(reason)
    folder, port = tmp_path_factory.mktemp("compose"), free_port()
    for name in ("data", "corpora", "weights"):
        (folder / name).mkdir()
    (folder / "data").chmod(0o777)  # the services' user is none of this machine's
    own = {"run": "deployed", "training.methods": ["fedavg"], "corpus.kind": "studio", "workers": 1}
    ours = yaml.safe_load((PROJECT / "deploy" / "params.yaml").read_text())["set"]
    ray = {key: value for key, value in ours.items() if key.startswith("training.execution.")}
    (folder / "params.yaml").write_text(yaml.safe_dump({"profile": "small", "set": own | ray}))
    # An image of a name of its own: the one that a machine works with stays what it is.
    more: dict[str, Any] = {name: {"image": IMAGE} for name in ("code", "webserver", "daemon", "ray-worker")}
    more["code"]["volumes"] = [f"{folder}/params.yaml:/app/deploy/params.yaml:ro"]
    more["webserver"]["ports"] = "OURS"
    ports = f'!override ["127.0.0.1:{port}:3000"]'
    (folder / "more.yaml").write_text(yaml.safe_dump({"services": more}).replace("OURS", ports))
    values = {f"PRIVFEDTALK_{name.upper()}": str(folder / name) for name in ("data", "corpora", "weights")}
    named = {"POSTGRES_PASSWORD": secrets.token_hex(8), "COMPOSE_PROJECT_NAME": "privfedtalk-test"}
    made = Deployment(folder, port, os.environ | values | named)
    try:
        made.do("up", "--build", "--detach")
        yield made
    finally:
        # What the services wrote is their user's, which only they may take away.
        made.compose("exec", "-T", "code", "find", "/app/data", "-mindepth", "1", "-delete")
        made.compose("down", "--volumes")
        subprocess.run(["docker", "image", "rm", IMAGE], capture_output=True)


def test_the_file_for_gpus_gives_them_to_what_trains() -> None:
    if shutil.which("docker") is None or subprocess.run(COMPOSE_VERSION, capture_output=True).returncode:
        pytest.skip("Docker with Compose is not installed")
    files = [word for name in ("compose", "compose.gpu") for word in ("-f", str(PROJECT / "deploy" / f"{name}.yaml"))]
    command = ["docker", "compose", *files, "config", "--format", "json"]
    told = subprocess.run(command, env=os.environ | {"POSTGRES_PASSWORD": "x"}, capture_output=True, check=True)
    services = json.loads(told.stdout)["services"]
    given = {name for name, service in services.items() if service.get("deploy", {}).get("resources")}
    assert given == {"code", "ray-worker"}
    assert "dagster code-server start" in " ".join(services["code"]["command"])  # what the first file says stands


def test_jobs_from_the_queue_prepare_and_train_on_ray(deployment: Deployment) -> None:
    def loaded() -> bool:
        told = ask(deployment.port, LOADED)
        entries = told["workspaceOrError"].get("locationEntries", []) if told else []
        return [each["locationOrLoadError"]["__typename"] for each in entries] == ["RepositoryLocation"]

    until(loaded, 180, deployment, "the code location")
    assert deployment.launch("prepare", "000", f"{BUCKETS - 1:03d}") == "SUCCESS", deployment.said
    assert deployment.launch("train", "fedavg", "fedavg") == "SUCCESS", deployment.said
    method = deployment.folder / "data" / "deployed" / "federation" / "fedavg"
    assert (method / "adapter" / "adapter_model.safetensors").exists()
    assert len((method / "rounds.jsonl").read_text().splitlines()) == 2
    rows = deployment.do("exec", "-T", "postgres", "psql", "-U", "privfedtalk", "-tAc", "select status from runs")
    assert rows.split() == ["SUCCESS", "SUCCESS"]
    assert deployment.do("exec", "-T", "code", "id", "-u").strip() == "10001"
    assert deployment.compose("exec", "-T", "code", "touch", "/app/here").returncode != 0
    # Clients were trained where the CPUs are: by an actor in the worker's container.
    find = "grep -l actor_name:Worker /tmp/ray/session_latest/logs/worker-*"
    assert deployment.do("exec", "-T", "ray-worker", "bash", "-c", find).split()
