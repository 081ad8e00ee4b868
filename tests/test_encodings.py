"""Text is UTF-8 wherever it is read or written, whatever the system prefers: a record of one machine reads the
same on another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("common", "preparation", "training", "evaluation", "assets", "pipelines")


def unnamed(tree: ast.AST) -> Iterator[int]:
    """The lines of calls that read or write text and leave its encoding to the system."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or any(word.arg == "encoding" for word in call.keywords):
            continue
        if ast.unparse(call.func) in {"av.open", "tarfile.open"}:  # their modes are like those of text
            continue
        method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        given = [*call.args, *(word.value for word in call.keywords)]
        texts = [each.value for one in given for each in ast.walk(one) if isinstance(each, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and text and set(text) <= set("rwaxbt+")]
        reads = method and name == "read_text" and not call.args
        writes = method and name == "write_text" and len(call.args) == 1
        opens = name in {"open", "fdopen"} and any("b" not in mode for mode in modes)
        bare = name == "open" and not modes and (not method or not call.args) and not call.keywords
        if reads or writes or opens or bare:
            yield call.lineno


@pytest.mark.parametrize(
    "name",
    [path.relative_to(ROOT).as_posix() for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))],
)
def test_every_text_file_names_its_encoding(name: str) -> None:
    found = list(unnamed(ast.parse((ROOT / name).read_text(encoding="utf-8"))))
    assert not found, f'give encoding="utf-8" in lines {found}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text(x)", True),
        ("open(path)", True),
        ("path.open()", True),
        ("path.open('a')", True),
        ("open(path, 'w' if new else 'a')", True),
        ("os.fdopen(number, 'w')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("write_text(path, x)", False),
        ("path.open('rb')", False),
        ("RunKey.open(path)", False),
        ("Image.open(path)", False),
    ],
)
def test_a_call_that_leaves_it_to_the_system_is_found(text: str, found: bool) -> None:
    assert bool(list(unnamed(ast.parse(text)))) is found
