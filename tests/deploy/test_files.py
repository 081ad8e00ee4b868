"""deploy/ holds together: every variable that is read is given, every command of it is one that exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.configuration import load

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
    assert f"--head --port {port}" in compose["services"][host]["command"]
    assert configuration.nightly.time_zone == "UTC"


def test_the_image_copies_what_is_there() -> None:
    for line in re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        assert all((DEPLOY.parent / name).exists() for name in line.split()), line
