"""Every setting of a configuration with its value, default, description and unit."""

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
"""The unit by the last or the first word of a setting's name; other settings are counts, shares or names."""


@dataclass(frozen=True)
class Setting:
    """A setting; hidden values are left out. The default is the code's, whatever the profile says."""

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
    """The field with the key `a.b.c`; keys inside a mapping are described by the mapping's field."""
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
