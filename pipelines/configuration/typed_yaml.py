"""YAML that is read for the fields of a model: where a field is text, a scalar stays as it was typed.

YAML alone makes a date of `2026-11-29`, 83 of `0123`, false of `no`, nothing of `null`, and takes `#` for a comment.
Where a setting is text (a string, a path, one of some names), that is never what was meant.
"""

from __future__ import annotations

import re
import types
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

DEEPEST = 100
"""Most levels of nested lists and mappings; a node that contains itself would have no end."""
LARGEST = 100_000
"""Most values in one document: a few lines of aliases can stand for billions."""

_NULL, _INT, _BOOL = (f"tag:yaml.org,2002:{name}" for name in ("null", "int", "bool"))
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_QUOTED = re.compile(r"""\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*""", re.DOTALL)


class UnreadableError(Exception):
    """The text is not YAML, or cannot be a configuration; the message says why."""


def read(text: str, shape: Any = None) -> Any:
    """The value of a YAML document. `shape` is the type that it shall become: a model, a field's annotation, or a
    dict of these by key.

    Raises UnreadableError.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _Reader(loader).value(node, shape)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UnreadableError(str(error)) from error
    except (ValueError, OverflowError) as error:  # 2026-13-45 as a date, numbers of thousands of digits
        raise UnreadableError(f"a value is not valid: {error}") from error
    except RecursionError as error:
        raise UnreadableError("its lists are nested too deeply") from error


def read_typed(text: str, shape: Any) -> Any:
    """The value that somebody typed for one field: its own text where the field holds text, else YAML.

    Quotes around the whole text are removed, because `privfedtalk config` prints them; `null` means None if the field
    may be None. Raises UnreadableError.
    """
    if not _is_text(shape) or _QUOTED.fullmatch(text):
        return read(text, shape)
    return None if _may_be_none(shape) and text.strip() in ("", "null", "Null", "NULL", "~") else text


def field_at(model: Any, key: list[str]) -> Any:
    """The annotation of the field `a.b.c` of a model; None where there is none."""
    for name in key:
        model = _below(model, name)
    return model


class _Reader:
    """Turns YAML nodes into values, and counts them."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader, self._made, self._flat = loader, 0, set[int]()

    def value(self, node: yaml.Node, shape: Any, depth: int = 0) -> Any:
        self._made += 1
        if depth > DEEPEST or self._made > LARGEST:
            raise UnreadableError("it contains itself, or too much")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, _item(shape, place), depth + 1) for place, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, shape, depth)
        if node.tag == _NULL:
            return _whole(node.value) if _is_text(shape) and not _may_be_none(shape) and node.value else None
        if _is_text(shape):
            return _whole(node.value)
        if _is_number(shape):
            if node.tag == _INT and _DECIMAL.fullmatch(node.value):
                return int(node.value)  # 0123 is not octal
            if node.tag == _BOOL:
                return node.value  # `yes` is no 1
        return self._loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, shape: Any, depth: int) -> dict[str, Any]:
        if id(node) not in self._flat:  # an alias repeats a node, whose merged keys are in place already
            self._flat.add(id(node))
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise UnreadableError(f"a key is a list or a mapping\n{key.start_mark}")
            keys = [key.value for key, _ in node.value]
            if twice := [key for key, count in Counter(keys).items() if count > 1]:
                raise UnreadableError(f"'{twice[0]}' is there twice\n{node.start_mark}")
            self._loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key, value in node.value:
            below = _below(shape, key.value) or field_at(shape, key.value.split("."))
            values[key.value] = self.value(value, below, depth + 1)
        return values


def _whole(text: str) -> str:
    """The text with surrogate pairs joined: JSON escapes one character as a pair, which YAML reads as two halves."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _below(shape: Any, name: str) -> Any:
    """The type of a mapping's value, by its key."""
    for one in _choices(shape):
        if isinstance(one, Mapping):
            return one.get(name)
        if isinstance(one, type) and issubclass(one, BaseModel) and name in one.model_fields:
            return one.model_fields[name].annotation
        if get_origin(one) in (dict, Mapping):
            return get_args(one)[1]
    return None


def _item(shape: Any, place: int) -> Any:
    """The type of a list's item."""
    for one in _choices(shape):
        if get_origin(one) in (list, tuple, set, frozenset):
            items = get_args(one)
            return items[min(place, len(items) - 1)] if items[-1] is not Ellipsis else items[0]
    return None


def _choices(shape: Any) -> list[Any]:
    """What a value may be, None left out."""
    parts = get_args(shape) if get_origin(shape) in (Union, types.UnionType) else (shape,)
    return [part for part in parts if part is not type(None)]


def _may_be_none(shape: Any) -> bool:
    return type(None) in get_args(shape)


def _is_text(shape: Any) -> bool:
    return all(_holds_text(one) for one in _choices(shape))


def _holds_text(one: Any) -> bool:
    if get_origin(one) is Literal:
        return all(isinstance(value, str) for value in get_args(one))
    if not isinstance(one, type):
        return False
    return issubclass(one, str | Path) or (issubclass(one, Enum) and all(isinstance(each.value, str) for each in one))


def _is_number(shape: Any) -> bool:
    return all(one in (int, float) for one in _choices(shape))
