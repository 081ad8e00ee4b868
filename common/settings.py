"""The base of all settings classes: unknown keys, infinite numbers and NaN are refused, values are frozen, secrets are
never shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

HIDDEN = "hidden"
"""Marks a field whose value is never shown: `Field(json_schema_extra={HIDDEN: "secret"})`; with `"people"`, for names
of people, only their number is shown."""


class Settings(BaseModel):
    """A frozen, validated group of parameters; defaults live in code, files hold only differences.

    Every field has a description, in `Field(description=…)` or in a docstring below it: `privfedtalk config` prints it.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def fingerprint(self) -> str:
        """Sixteen hex digits that change whenever a value changes (of this group or one inside it)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What `repr` shows, in tracebacks and logs."""
        values = dict(super().__repr_args__())
        for name, field in type(self).model_fields.items():
            if _mark_of(field) and name in values:
                values[name] = _shown(field, values[name])
        return values.items()

    def shown(self, exclude_defaults: bool = False) -> dict[str, Any]:
        """The values as they may be shown to anybody: pages, logs, commands and messages take them from here."""
        values: dict[str, Any] = redacted(type(self), self.model_dump(mode="json", exclude_defaults=exclude_defaults))
        return values


def redacted(model: type[BaseModel], values: Any) -> Any:
    """Plain values in the model's shape, checked or not, with those of hidden fields replaced.

    A field's default value is left as it is: anybody can read it in the code.
    """
    if isinstance(values, list | tuple):
        return [redacted(model, value) for value in values]
    if not isinstance(values, Mapping):  # not of the model's shape: it may be meant for a hidden field
        return values if values is None or not _holds_hidden(model) else "(hidden)"
    fields = model.model_fields
    return {name: _shown(fields[name], value) if name in fields else value for name, value in values.items()}


def hides(model: type[BaseModel], values: Mapping[str, Any]) -> bool:
    """Whether plain values of the model's shape contain anything that must not be shown."""
    return bool(redacted(model, values) != _plain(values))


@cache
def _holds_hidden(model: type[BaseModel]) -> bool:
    fields = model.model_fields.values()
    return any(_mark_of(field) or any(map(_holds_hidden, _models_in(field.annotation))) for field in fields)


def _mark_of(field: FieldInfo) -> Any:
    return field.json_schema_extra.get(HIDDEN) if isinstance(field.json_schema_extra, dict) else None


def _shown(field: FieldInfo, value: Any) -> Any:
    kind = _mark_of(field)
    if kind is not None:
        if not value or value == field.get_default(call_default_factory=False):
            return _plain(value)
        return f"({len(value)} names)" if kind == "people" and isinstance(value, list | tuple) else "(hidden)"
    for inner in _models_in(field.annotation):
        if get_origin(field.annotation) is dict and isinstance(value, Mapping):
            value = {name: redacted(inner, each) for name, each in value.items()}
        else:
            value = redacted(inner, value)
    return _plain(value)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes that occur in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _plain(value: Any) -> Any:
    """The value with tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
