"""Reads settings for any pydantic model: nested YAML, overrides on top, unknown keys refused by name.

An override is a key `a.b.c` with its value. Text is turned into values here and nowhere else: `a.b.c=text` in
`read_assignments`, a YAML file in `read_yaml`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import PrivFedTalkError
from common.settings import redacted
from common.text.tables import encoding_of
from pipelines.configuration import typed_yaml
from pipelines.configuration.typed_yaml import UnreadableError, field_at

M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path, shape: Any = None) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty mapping.

    `shape` is the model that is built from it: where its field is text, the value stays text. Keys may contain dots.
    """
    try:
        values = typed_yaml.read(_text_of(path), shape)
    except OSError as error:
        raise PrivFedTalkError(f"{path} cannot be read: {error.strerror}", "name a YAML file") from error
    except UnreadableError as error:
        raise PrivFedTalkError(f"{path} is not YAML: {error}", "mend the line named above") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise PrivFedTalkError(
            f"{path} holds a {type(values).__name__}, not keys with values", "write `key: value` lines"
        )
    return values


def _text_of(path: Path) -> str:
    """The text of a file in UTF-8, or in the Unicode encoding that its byte order mark names."""
    content = path.read_bytes()
    encoding = encoding_of(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        # Unlike in errors about tables, the line is not shown: a profile may hold secrets.
        meant, byte = encoding.removesuffix("-sig").upper(), content[error.start]
        raise PrivFedTalkError(
            f"{path} is not {meant}: byte {error.start} is 0x{byte:02x}",
            "save it as UTF-8; a Windows editor's ANSI is cp1252: iconv -f cp1252 -t utf-8",
        ) from error


def read_assignments(assignments: Iterable[str], shape: Any = None) -> dict[str, Any]:
    """The overrides of assignments `a.b=text`; later ones win.

    Where the field of the model `shape` is text, the value is the text as it was typed. Other values are read as YAML,
    so numbers, lists and null work.
    """
    return combine(*(_read_assignment(assignment, shape) for assignment in assignments))


def combine(*overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Several overrides as one mapping; later ones win. No key contains another, so the result means the same in any
    order: Dagster does not keep the order."""
    values: dict[str, Any] = {}
    for each in overrides:
        values = override(values, each)
    return flatten(values)


def override(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Nested `values` with the overrides applied."""
    merged = dict(values)
    for key, value in overrides.items():
        merged = merge(merged, nested(key.split("."), value))
    return merged


def _read_assignment(assignment: str, shape: Any) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        # The text after the sign may be a secret.
        raise PrivFedTalkError(
            f"'{key}{equals}' does not begin an assignment", "write key=value, e.g. training.federation.rounds=12"
        )
    try:
        return {key.strip(): typed_yaml.read_typed(text, field_at(shape, parts))}
    except UnreadableError as error:
        raise PrivFedTalkError(f"the value of '{key.strip()}' is not YAML", "quote it") from error


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one; where both hold a value, `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        held = merged.get(key)
        merged[key] = merge(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return merged


def build(model: type[M], values: Mapping[str, Any], source: str) -> M:
    """`model` made from `values`; every refused key or value is named, with the nearest known key.

    `source` says where the values come from; the error message names it.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        known = list(dotted_keys(model))
        lines = [_complaint(model, detail, known) for detail in error.errors()]
        # Pydantic's own text quotes every value, secrets too, so it is not passed on.
        raise PrivFedTalkError(
            f"{source}: " + "\n  ".join(lines),
            "mend the keys above; `privfedtalk config` lists every key with its value",
        ) from None


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of the model and of the models inside it, as `a.b.c`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from dotted_keys(field.annotation, f"{prefix}{name}.")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as overrides: key `a.b.c` → value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def nearest(key: str, known: list[str]) -> str | None:
    """The known key that `key` most likely meant: the same last part elsewhere, else the closest spelling."""
    last = key.rpartition(".")[2]
    namesakes = [candidate for candidate in known if candidate.rpartition(".")[2] == last]
    close = difflib.get_close_matches(key, namesakes or known, n=1, cutoff=0.0 if namesakes else 0.6)
    if not close:
        by_last = {candidate.rpartition(".")[2]: candidate for candidate in known}
        close = [by_last[name] for name in difflib.get_close_matches(last, list(by_last), n=1, cutoff=0.6)]
    return close[0] if close else None


def nested(parts: list[str], value: object) -> dict[str, Any]:
    for part in reversed(parts):
        value = {part: value}
    return value  # type: ignore[return-value]  # parts is never empty


def _complaint(model: type[BaseModel], detail: Any, known: list[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        guess = nearest(key, known)
        return f"unknown key '{key}'" + (f"; did you mean '{guess}'?" if guess else "")
    return f"{key}={_shown_at(model, detail['loc'], detail['input'])!r}: {detail['msg']}"


def _shown_at(model: type[BaseModel], place: tuple[int | str, ...], value: object) -> object:
    """A refused value with hidden parts left out; `place` is its path in values of the model's shape."""
    names = [part for part in place if isinstance(part, str)]  # without list indices: a list's items have its shape
    shown: Any = redacted(model, nested(names, value))
    for part in names:
        shown = shown[part] if isinstance(shown, Mapping) else shown
    return shown
