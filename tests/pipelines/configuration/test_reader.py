"""Profiles and overrides reach the settings, and what is not known is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from common.errors import PrivFedTalkError
from common.settings import Settings
from pipelines.configuration.reader import (
    build,
    combine,
    dotted_keys,
    merge,
    nearest,
    override,
    read_assignments,
    read_yaml,
)


class Rounds(Settings):
    rounds: int = Field(6, ge=1)
    learning_rate: float = 2e-3


class Privacy(Settings):
    clip_norm: float = 1.0
    sigma: float | None = None


class Everything(Settings):
    seed: int = 0
    federation: Rounds = Rounds()
    privacy: Privacy = Privacy()


def test_defaults_come_from_code_and_overrides_win_in_order() -> None:
    typed = ["federation.rounds=8", "federation.rounds=9", "federation.learning_rate=1e-4", "privacy.sigma=null"]
    overrides = read_assignments([*typed, "seed=4"])
    built = build(Everything, override({"federation": {"rounds": 3}}, overrides), "test")
    assert built.federation == Rounds(rounds=9, learning_rate=1e-4)
    assert (built.seed, built.privacy) == (4, Privacy())


def test_merge_is_deep_and_leaves_its_arguments_alone() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(below, {"a": {"b": 9}}) == {"a": {"b": 9, "c": 2}, "d": 3}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}


def test_overrides_mean_the_same_in_any_order() -> None:
    """Dagster keeps a run's overrides, and not their order."""
    found = read_assignments(["a.b=1", "a={b: 2, c: 3}", "a.c=4", "d=[1]"])
    assert found == {"a.b": 2, "a.c": 4, "d": [1]}
    assert override({"a": {"e": 5}}, dict(reversed(found.items()))) == {"a": {"b": 2, "c": 4, "e": 5}, "d": [1]}
    assert combine({"a.b": 1}, {"a": {"b": None}}) == {"a.b": None}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("federation.round", "federation.rounds"),
        ("federation.clip_norm", "privacy.clip_norm"),
        ("clip_norm", "privacy.clip_norm"),
        ("sede", "seed"),
        ("clipnorm", "privacy.clip_norm"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_known_one(typed: str, meant: str) -> None:
    with pytest.raises(PrivFedTalkError, match=f"unknown key '{typed}'; did you mean '{meant}'"):
        build(Everything, override({}, read_assignments([f"{typed}=1"])), "test")


def test_nothing_is_guessed_where_nothing_is_near() -> None:
    assert nearest("zzzzqq", list(dotted_keys(Everything))) is None


def test_a_bad_value_is_named() -> None:
    with pytest.raises(PrivFedTalkError, match=r"profile x: federation\.rounds=0: .*greater than or equal to 1"):
        build(Everything, {"federation": {"rounds": 0}}, "profile x")


@pytest.mark.parametrize("assignment", ["rounds", "=3", "a..b=1", "a=[1"])
def test_what_is_no_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(PrivFedTalkError, match="remedy"):
        read_assignments([assignment])


def test_yaml_files(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("# only a comment\n")
    assert read_yaml(path) == {}
    for wrong in ("- a\n- b\n", "a: [1\n"):
        path.write_text(wrong)
        with pytest.raises(PrivFedTalkError, match=r"p\.yaml"):
            read_yaml(path)
