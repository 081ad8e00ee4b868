"""The code version of a stage: a digest of the function that makes the stage's files, and of all code that it uses.

There are two rules:

- in `assets` and `pipelines` single definitions count: the function; the functions, classes and constants of these
  floors that it names; what those name; and so on. So a stage depends neither on how another asset of the same file is
  made nor on how either is shown;
- on lower floors a module counts as a whole, with all that it imports (`common.provenance`).

Annotations do not count: they name types, not code that runs.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from common.provenance import SourceTree, code_of, project_sources

BY_DEFINITION = ("assets", "pipelines")
"""The floors that are read definition by definition."""
DECIDES_NOTHING = (
    "common.errors",
    "common.locks",
    "common.native_output",
    "common.progress",
    "common.provenance",
    "common.workers",
)
"""Modules that decide how work is spread and reported, not its result. If they counted, a new error message would
make every stage due again."""


@dataclass(frozen=True)
class UsedCode:
    """The code that a function uses: definitions of the upper floors, (module, name) → digest, and whole modules of the
    lower floors."""

    definitions: dict[tuple[str, str], str]
    modules: frozenset[str]

    def version(self, sources: SourceTree) -> str:
        """A digest of all this code, sixteen hex digits."""
        total = hashlib.sha256()
        for (module, name), digest in sorted(self.definitions.items()):
            total.update(f"{module} {name} {digest}\n".encode())
        total.update(sources.digest(self.modules).encode())
        return total.hexdigest()[:16]


def code_version(make: Callable[..., object]) -> str:
    """A digest of a function, or partial function, and of all code that it uses: sixteen hex digits."""
    return _version(*place_of(make))


@cache
def _version(module: str, name: str) -> str:
    sources = project_sources()
    return used_by(module, name, sources).version(sources)


def place_of(make: Callable[..., object]) -> tuple[str, str]:
    """The module and the name of a function, a partial function or a decorated one."""
    while isinstance(make, partial):
        make = make.func
    function: Any = inspect.unwrap(make)
    assert "." not in function.__qualname__, f"{function.__qualname__} is no function of a module: its code has no name"
    return function.__module__, function.__qualname__


def used_by(module: str, name: str, sources: SourceTree) -> UsedCode:
    """The code that the function `name` of a module uses, directly or indirectly."""
    definitions: dict[tuple[str, str], str] = {}
    modules: set[str] = set()
    waiting = [(module, name)]
    while waiting:
        place = waiting.pop()
        if place in definitions:
            continue
        if place[0].partition(".")[0] not in BY_DEFINITION or not place[1]:
            modules.add(place[0])
            continue
        found = _read(place[0], sources)
        definition, imported = found.definitions.get(place[1]), found.imports.get(place[1])
        if definition is not None:
            definitions[place] = hashlib.sha256(code_of(definition).text.encode("utf-8", "surrogatepass")).hexdigest()
            waiting += found.uses(definition, sources)
        elif imported is not None:
            waiting.append(imported)
    return UsedCode(definitions, frozenset(sources.closure(modules, DECIDES_NOTHING)))


@dataclass(frozen=True)
class _Module:
    """A module's definitions by name, and its imports from the project at the top: name → (module, name)."""

    name: str
    definitions: dict[str, ast.stmt]
    imports: dict[str, tuple[str, str]]

    def uses(self, definition: ast.stmt, sources: SourceTree) -> list[tuple[str, str]]:
        """(module, name) of everything in the project that a definition names or imports itself."""
        names: set[str] = set()
        found: list[tuple[str, str]] = []
        for node in _running(definition):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found += sources.imported(node).values()
            elif isinstance(node, ast.Name):
                names.add(node.id)
        found += [(self.name, name) for name in sorted(names & self.definitions.keys())]
        found += [self.imports[name] for name in sorted(names & self.imports.keys())]
        return found


@cache
def _read(module: str, sources: SourceTree) -> _Module:
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str]] = {}
    for statement in sources.tree(module).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports |= sources.imported(statement)
        else:
            definitions |= dict.fromkeys(_bound(statement), statement)
    return _Module(module, definitions, imports)


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)]


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """A definition's nodes, without its annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _running(child)
