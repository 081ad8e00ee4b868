"""Numbers that nobody means are refused by every option, and what is taken ends in bounded time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from common.errors import PrivFedTalkError
from pipelines.cli import app
from tests.pipelines.terminal.test_documents import leaves
from training.privacy.accounting.epsilon import noise_for_epsilon
from training.privacy.accounting.plan import plan
from training.privacy.accounting.schedule import Schedule
from training.settings.privacy import PrivacySettings

PLAN = {"--clients": "60", "--rounds": "20", "--per-round": "60", "--target-epsilon": "2", "--sampling": "full"}


def numeric() -> Iterator[tuple[str, str, type]]:
    """Every option of every command that takes a number."""
    for name, command in leaves(get_command(app)):
        parameters: list[Any] = command.params
        for parameter in parameters:
            kind = parameter.type_descriptor.annotation
            if kind in (int, float):
                yield name, parameter.opts[0], kind


def test_they_are_found() -> None:
    found = {(name, option) for name, option, _ in numeric()}
    assert {("privacy plan", "--target-epsilon"), ("generate", "--crf"), ("train", "--seed")} <= found
    assert len(found) > 25


@pytest.mark.parametrize(("name", "option", "kind"), list(numeric()), ids=lambda value: str(value))
def test_absurd_numbers_are_refused_by_every_option(name: str, option: str, kind: type) -> None:
    for absurd in ("nan", "inf", "-inf", "-1", "1e308", "1" + "0" * 30, "x", ""):
        result = CliRunner().invoke(app, [*name.split(), f"{option}={absurd}"])
        assert result.exit_code == 2 and "Traceback" not in result.output, (absurd, result.output)
        # Not for another reason, such as an argument that is missing.
        assert "Invalid value" in result.output and option in result.output, (absurd, result.output)


def planned(**changed: str) -> Any:
    chosen = PLAN | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return CliRunner().invoke(app, ["privacy", "plan", *(part for pair in chosen.items() for part in pair)])


@pytest.mark.parametrize("epsilon", ["nan", "inf", "-inf", "0", "-1", "1e308"])
def test_no_plan_for_an_epsilon_that_is_none(epsilon: str) -> None:
    began = time.monotonic()
    result = planned(target_epsilon=epsilon)
    assert result.exit_code == 2 and time.monotonic() - began < 20


def test_no_plan_for_one_client_alone() -> None:
    result = planned(clients="1", per_round="1")
    assert result.exit_code == 2 and "--clients" in result.stderr


@pytest.mark.parametrize("delta", ["0", "1", "nan", "0.47", "-1"])
def test_no_plan_for_a_delta_that_is_no_promise(delta: str) -> None:
    result = planned(delta=delta)
    assert result.exit_code == 2 and "--delta" in result.stderr


@pytest.mark.parametrize("target", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_the_search_for_noise_begins_with_a_target(target: float) -> None:
    with pytest.raises(PrivFedTalkError, match="target ε"):
        noise_for_epsilon(Schedule(10, 5, 10), target, 1e-5)


@pytest.mark.parametrize("reader", ["release", "server"])
def test_the_largest_plan_ends(reader: Any) -> None:
    began = time.monotonic()
    most = Schedule(10**12, 10**12, 10**9, "full")
    made = plan(most, 1e6, PrivacySettings(mode="distributed"), 10**15, reader)
    assert made.noise_multiplier > 0 and time.monotonic() - began < 60
