"""Every setting says what it means; its unit follows from its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, Field

from common.settings import Settings
from pipelines.configuration.settings import description_of, field_of, list_settings, unit_of
from pipelines.configuration.tree import Configuration, load, profiles
from pipelines.paper.settings import PaperSettings


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def undescribed(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Keys without a description, those of a list's items too; a group is described by its class."""
    for name, field in model.model_fields.items():
        groups = list(models_in(field.annotation))
        for group in groups:
            yield from undescribed(group, f"{prefix}{name}.")
        if field.annotation not in groups and not description_of(field):
            yield prefix + name


@pytest.mark.parametrize("model", [Configuration, PaperSettings])
def test_every_setting_has_a_description(model: type[BaseModel]) -> None:
    assert list(undescribed(model)) == []


def test_a_description_stands_in_the_field_or_below_it() -> None:
    class Some(Settings):
        first: int = Field(1, description="of the field")
        second: int = 2
        """Below the
        field."""
        third: int = 3

    assert [description_of(field) for field in Some.model_fields.values()] == ["of the field", "Below the field.", ""]


@pytest.mark.parametrize("profile", profiles())
def test_every_value_is_listed_with_the_default_of_the_code(profile: str) -> None:
    listed = {setting.key: setting for setting in list_settings(load(profile))}
    assert all(setting.description for setting in listed.values())
    default = {setting.key: setting.value for setting in list_settings(Configuration())}
    assert all(setting.default == default.get(key) for key, setting in listed.items())


def test_what_is_hidden_stays_hidden() -> None:
    chosen = load("demo", ["training.provenance.watermark_key=ours", "preparation.clients.volunteers=[anna, ben]"])
    shown = {setting.key: setting.value for setting in list_settings(chosen)}
    assert shown["training.provenance.watermark_key"] == "(hidden)"
    assert shown["preparation.clients.volunteers"] == "(2 names)"


def test_a_key_inside_a_field_of_names_is_described_by_the_field() -> None:
    assert field_of("training.components.fedavg") is field_of("training.components")
    listed = {setting.key: setting for setting in list_settings(load("demo", ["training.components={fedavg: [dp]}"]))}
    found = listed["training.components.fedavg"]
    assert (found.value, found.default) == (["dp"], None) and "Parts of the full method" in found.description


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("studio.seconds", "seconds"),
        ("preparation.corpus.media.longest_gap_seconds", "seconds"),
        ("preparation.corpus.media.slowest_fps", "frames/s"),
        ("preparation.corpus.media.pixels_a_frame", "pixels"),
        ("preparation.quality.maximum_roll_degrees", "degrees"),
        ("preparation.shards.max_bytes", "bytes"),
        ("training.federation.memory_budget_gb", "GB"),
        ("training.federation.rounds", None),
    ],
)
def test_the_unit_is_in_the_name(key: str, unit: str | None) -> None:
    assert field_of(key) and unit_of(key) == unit
