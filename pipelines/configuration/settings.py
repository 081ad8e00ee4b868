"""Every setting of a configuration with what a reader asks of it: value, default, description, unit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.configuration.reader import flatten
from pipelines.configuration.tree import Configuration

UNITS = {
    "seconds": "seconds",
    "hz": "Hz",
    "fps": "frames/s",
    "bytes": "bytes",
    "gb": "GB",
    "pixels": "pixels",
    "degrees": "degrees",
}
"""What the first or the last word of a setting's name says of its unit; other settings are counts, shares or names."""


@dataclass(frozen=True)
class Setting:
    """`value` and `default` as they may be shown; the default is the code's, whatever the profile says."""

    key: str
    value: Any
    default: Any
    description: str
    unit: str | None

    @property
    def assignment(self) -> str:
        """`a.b.c=value`, as --set takes it."""
        return f"{self.key}={json.dumps(self.value)}"


def list_settings(configuration: Configuration) -> list[Setting]:
    """Every setting, in the order of the configuration's fields."""
    defaults = flatten(Configuration().shown())
    return [
        Setting(key, value, defaults.get(key), description_of(field_of(key)), unit_of(key))
        for key, value in flatten(configuration.shown()).items()
    ]


def field_of(key: str) -> FieldInfo:
    """The field `a.b.c` of a configuration; what lies in a field of names with values is described by that field."""
    model: type[BaseModel] = Configuration
    for name in key.split("."):
        field = model.model_fields[name]
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return field


def description_of(field: FieldInfo) -> str:
    """The description of a field, from `Field(description=…)` or from the docstring below it, on one line."""
    return " ".join((field.description or "").split())


def unit_of(key: str) -> str | None:
    words = key.rpartition(".")[2].split("_")
    return UNITS.get(words[-1]) or UNITS.get(words[0])
