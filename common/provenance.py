"""Code versions: which code made a file, so that only what older code made is made again.

The code version of a module covers the module and every module of this project that it imports, directly or through
others, at the top of a file or inside a function. Imports for types alone are left out, because they never run. A file
that is not Python, such as a page's template, counts with a module that lies beside it and names it.

A module is hashed as its syntax tree, without docstrings: comments, docstrings and formatting change no version.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

FLOORS = ("common", "preparation", "training", "evaluation", "assets", "pipelines")
"""The packages of this project; everything else that is imported is a library, whose version the lock file holds."""

NO_CODE = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of a syntax tree that repeat what its shape says, or hold comments."""
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
"""The remaining fields of each type of node met so far."""


@dataclass(frozen=True)
class Source:
    """One module: the SHA-256 of its code, and the modules of the project that it imports."""

    digest: str
    imports: frozenset[str]


class SourceTree:
    """The project's modules below a folder; each file is read once."""

    def __init__(self, root: Path) -> None:
        self.files: dict[str, Path] = {}
        """The file of each module of the project."""
        self._beside: dict[Path, dict[str, Path]] = {}
        """The files of each folder that are not Python, by name."""
        self._sources: dict[str, Source] = {}
        for folder, _, names in chain.from_iterable(os.walk(root / floor) for floor in FLOORS):
            package = os.path.relpath(folder, root).replace(os.sep, ".")
            for path in (Path(folder) / name for name in names):
                if path.suffix == ".py":
                    self.files[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
                elif path.suffix != ".pyc":
                    self._beside.setdefault(path.parent, {})[path.name] = path

    def tree(self, module: str) -> ast.Module:
        return ast.parse(self.files[module].read_bytes())

    def source(self, module: str) -> Source:
        if module not in self._sources:
            self._sources[module] = self._read(module)
        return self._sources[module]

    def closure(self, modules: Iterable[str], without: Collection[str] = ()) -> set[str]:
        """The modules and all that they import, directly or through others; `without` names modules or packages to
        leave out, together with what only they import."""

        def counts(module: str) -> bool:
            return not any(module == left or module.startswith(f"{left}.") for left in without)

        found = set(filter(counts, modules))
        waiting = sorted(found)
        with _no_collection():
            while waiting:
                new = set(filter(counts, self.source(waiting.pop()).imports)) - found
                found |= new
                waiting += new
        return found

    def digest(self, modules: Iterable[str]) -> str:
        """The SHA-256 of the code of these modules, without what they import."""
        total = hashlib.sha256()
        for module in sorted(modules):
            total.update(f"{module} {self.source(module).digest}\n".encode())
        return total.hexdigest()

    def imported(self, statement: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
        """What an import of the project's modules binds: name here → (module, name there); "" is the module itself."""
        found: dict[str, tuple[str, str]] = {}
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                if alias.name in self.files:
                    found[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
            elif f"{statement.module}.{alias.name}" in self.files:
                found[alias.asname or alias.name] = (f"{statement.module}.{alias.name}", "")
            elif statement.module in self.files:
                found[alias.asname or alias.name] = (statement.module, alias.name)
        return found

    def _read(self, module: str) -> Source:
        code = code_of(self.tree(module))
        total = hashlib.sha256(code.text.encode("utf-8", "surrogatepass"))
        beside = self._beside.get(self.files[module].parent, {})
        for name in sorted(code.strings & beside.keys()):
            total.update(beside[name].read_bytes())
        imports = {target for statement in code.imports for target, _ in self.imported(statement).values()}
        imports |= {parent for target in imports for parent in _packages(target)}
        return Source(total.hexdigest(), frozenset(imports - {module}))


@dataclass(frozen=True)
class Code:
    """A syntax tree as text without docstrings, the imports in it that run, and its strings."""

    text: str
    imports: list[ast.Import | ast.ImportFrom]
    strings: set[str]


def code_of(tree: ast.AST) -> Code:
    """A syntax tree as text that is the same after any change of comments, docstrings or formatting, in any version of
    Python that parses it alike."""
    parts: list[str] = []
    code = Code("", [], set())
    _write(tree, parts, code)
    return Code("\x1f".join(parts), code.imports, code.strings)


def _write(node: ast.AST, parts: list[str], code: Code) -> None:
    if isinstance(node, ast.Constant):
        parts.append(repr(node.value))
        if isinstance(node.value, str):
            code.strings.add(node.value)
        return
    if isinstance(node, ast.stmt):
        if _has_no_effect(node):
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            code.imports.append(node)
    kind, values = type(node), node.__dict__
    parts.append(kind.__name__)
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(name for name in kind._fields if name not in NO_CODE)
    for name in _FIELDS[kind]:
        value = values.get(name)
        if value is None or value == []:  # versions of Python differ in fields that are mostly empty
            continue
        parts.append(name)
        before = len(parts)
        if isinstance(value, ast.AST):
            _write(value, parts, code)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, ast.AST):
                    _write(item, parts, code)
                else:
                    parts.append(repr(item))
        else:
            parts.append(repr(value))
        if len(parts) == before:  # nothing but a docstring
            parts.pop()
    parts.append(")")


def _has_no_effect(node: ast.stmt) -> bool:
    """Whether a statement is a bare string, such as a docstring, or a `TYPE_CHECKING` block."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    return False


def _packages(module: str) -> list[str]:
    """The packages that a module lies in, whose `__init__` runs before it."""
    names = module.split(".")
    return [".".join(names[:count]) for count in range(1, len(names))]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Suspend garbage collection: it would scan all syntax trees again and again, for half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def project_sources() -> SourceTree:
    """The sources of this process, read when they are first asked for."""
    return SourceTree(Path(__file__).resolve().parents[1])


@lru_cache(maxsize=32)
def code_version(*modules: str, without: tuple[str, ...] = ()) -> str:
    """The package's version and eight hex digits of the code of `modules` and all that they import, for instance
    0.1.0+3fa94c01; `without` as in `SourceTree.closure`."""
    try:
        release = version("privfedtalk")
    except PackageNotFoundError:
        release = "unpackaged"
    sources = project_sources()
    return f"{release}+{sources.digest(sources.closure(modules, without))[:8]}"
