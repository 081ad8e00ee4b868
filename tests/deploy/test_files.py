"""deploy/ holds together: every variable that is read is given, every command of it is one that exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.configuration.tree import load

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_every_variable_of_the_instance_is_given(compose: dict[str, Any]) -> None:
    read = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text()))
    for name, service in compose["services"].items():
        if name != "postgres":
            assert read <= set(service["environment"]), name


def test_services_wait_for_services_that_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", ())) <= set(compose["services"])
    more = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())
    assert set(more["services"]) <= set(compose["services"])


def test_only_the_web_server_is_published_and_only_here(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}


def test_code_and_ray_are_found_where_they_are_served(compose: dict[str, Any]) -> None:
    (location,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    served = compose["services"][location["grpc_server"]["host"]]["command"]
    assert f"--port {location['grpc_server']['port']} --module-name pipelines.definitions" in served
    params = yaml.safe_load((DEPLOY / "params.yaml").read_text())
    configuration = load(params["profile"], [f"{key}={value}" for key, value in params["set"].items()])
    host, _, port = str(configuration.training.execution.ray_address).partition(":")
    assert configuration.training.execution.engine == "ray"
    # On the machine that starts runs: Ray takes orders from nodes of its cluster alone.
    assert host == location["grpc_server"]["host"]
    assert f"--head --port {port}" in compose["services"][host]["command"]
    assert configuration.nightly.time_zone == "UTC"
    assert configuration.training.consent.required  # its people are real


def test_no_service_of_ours_is_root_or_can_become_it(compose: dict[str, Any]) -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] == "10001:10001", "a number, so that a cluster can see that it is not root"
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in lines[lines.index(f"USER {users[-1]}") :])
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged") and "pid" not in service and "network_mode" not in service, name
        assert not any("docker.sock" in volume for volume in service.get("volumes", ())), name
        if name == "postgres":
            assert not {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"} & set(service["cap_add"])
            continue
        assert service["user"] == "${PRIVFEDTALK_UID:-10001}:${PRIVFEDTALK_GID:-10001}", name
        assert service["read_only"] is True and "cap_add" not in service, name


def test_what_is_written_lies_in_folders_that_the_user_may_write_to(compose: dict[str, Any]) -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    volumes = compose["services"]["code"]["volumes"]
    written = {volume.rpartition(":")[2] for volume in volumes if not volume.endswith(":ro")}
    assert written == {"/tmp", "/var/lib/privfedtalk", "/app/data"}
    logs = compose["services"]["code"]["environment"]["PRIVFEDTALK_LOGS"]
    assert logs.startswith("/app/data/") and "HOME=/var/lib/privfedtalk" in image
    assert "install --directory --owner 10001 --group 10001 /app/data" in image
    # Corpora and weights are read, and never written to.
    assert {volume.split(":")[-2] for volume in volumes if volume.endswith(":ro")} == {"/corpora", "/weights"}


def test_the_image_copies_what_is_there() -> None:
    for line in re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        assert all((DEPLOY.parent / name).exists() for name in line.split()), line


def test_the_builder_is_sent_what_is_copied_and_neither_runs_nor_secrets() -> None:
    first, *others = [
        line for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    sent = {line.removeprefix("!") for line in others if line.startswith("!")}
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert first == "*" and sent == set(" ".join(copied).split())
    assert "**/.env" in others  # deploy/.env holds the database's password


def test_every_service_runs_a_program_that_the_image_has(compose: dict[str, Any]) -> None:
    """Dagster's are in the environment that the image installs from the lock; Ray's it installs beside."""
    image = (DEPLOY / "Dockerfile").read_text()
    locked = (DEPLOY.parent / "requirements.lock").read_text()
    brought = {"dagster": "dagster", "dagster-webserver": "dagster-webserver", "dagster-daemon": "dagster"}
    for name, service in compose["services"].items():
        if "command" not in service:
            assert service["image"].startswith("postgres"), name
            continue
        for step in service["command"].removeprefix('bash -c "').split("&&"):
            program = step.replace("exec ", "").split()[0]
            assert f"\n{brought[program]}==" in locked if program in brought else f'"{program}>=' in image, name
            if program in brought:
                assert Path(sys.executable).with_name(program).exists(), program


def test_files_that_commands_name_are_in_the_image_and_folders_are_mounted(compose: dict[str, Any]) -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    copied = set(" ".join(re.findall(r"^COPY (.+) \S+$", image, re.MULTILINE)).split())
    mounted = {volume.removesuffix(":ro").rpartition(":")[2] for volume in compose["services"]["code"]["volumes"]}
    for name, service in compose["services"].items():
        for word in service.get("command", "").split():
            if word.startswith("deploy/"):
                assert (DEPLOY.parent / word).exists() and "deploy" in copied, f"{name}: {word}"
    (params,) = re.findall(r"PRIVFEDTALK_PARAMS=(\S+)", image)
    root = yaml.safe_load((DEPLOY.parent / params).read_text())["set"]["corpus.root"]
    assert any(root.startswith(f"{folder}/") for folder in mounted), root
    # What the project reads from its folder, and that is not written there, is copied into the image.
    assert {
        "common",
        "preparation",
        "training",
        "evaluation",
        "assets",
        "pipelines",
        "params.yaml",
        "dagster.yaml",
    } <= copied


def test_variables_that_are_given_are_read_by_the_code_or_by_the_instance(compose: dict[str, Any]) -> None:
    project = DEPLOY.parent
    sources = [path for floor in ("common", "preparation", "training", "evaluation", "assets", "pipelines")
               for path in (project / floor).rglob("*.py")]  # fmt: skip
    read = "\n".join(path.read_text() for path in [*sources, DEPLOY / "dagster.yaml"])
    given = {name for service in compose["services"].values() for name in service["environment"]}
    given |= set(re.findall(r"(PRIVFEDTALK_\w+)=", (DEPLOY / "Dockerfile").read_text()))
    assert {name for name in given if name.startswith("PRIVFEDTALK") and name not in read} == set()
