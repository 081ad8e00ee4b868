"""What any floor writes is written whole or not at all: no interrupted command leaves half a file behind
that the next one takes for whole."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHOLE = {"replacing", "replacing_folder"}
METHODS = {"write_text", "write_bytes", "save_file", "savefig", "save_pretrained", "to_parquet", "to_csv", "savez"}
COPIES = {"copy", "copy2", "copytree", "copyfile", "copyfileobj"}
"""Of `shutil`."""

ALLOWED = {
    "preparation/corpora/studio/writer.py": {
        "encode_clip": "writes into memory",
    },
    "common/locks.py": {
        "locked": "a lock's file, which names its holder to people",
        "one_at_a_time": "a lock's file, which holds nothing",
        "busy": "reads a lock's file; it is made where it is not there",
    },
    "preparation/shards/store.py": {
        "write_shards": "writes into a neighbour that takes the folder's place",
        "_write_all": "writes into that neighbour",
    },
    "assets/stage/metadata.py": {"drawing": "writes into memory"},
    "training/adapters/adapter.py": {"_save_widened": "writes into the neighbour that `save` then puts in place"},
    "training/adapters/folders.py": {"import_adapter": "copies into a neighbour that is renamed where it passed"},
    "training/federation/server/checkpoint.py": {
        "save_checkpoint": "appends a line to rounds.jsonl; one that no state counts is cut off on loading"
    },
    "training/privacy/accounting/ledger.py": {"_write": "appends a line and syncs; half a line is cut off by the next"},
    "training/generation/marks/identity.py": {"_locked": "a lock's file, which holds nothing"},
    "training/generation/marks/manifest.py": {"attach": "signs into a file that its caller replaces"},
    "evaluation/tables/columns.py": {"to_csv": "the text of a table, in memory"},
    "training/privacy/accounting/signed_log.py": {"open": "a neighbour that is linked under its name when it is whole"},
}
"""File → function → why its writing needs no `replacing` around it."""


def writes(call: ast.Call) -> bool:
    """Whether a call writes a file: a writer's name, a mode that writes, or a picture that is saved."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    of = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if name in METHODS:
        return bool(of) or name == "save_file"  # functions of these names are this project's, and replace
    if name in COPIES:
        return of == "shutil"
    if name in {"open", "fdopen"}:
        given = [*call.args, *(word.value for word in call.keywords)]
        texts = [each.value for one in given for each in ast.walk(one) if isinstance(each, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwaxbt+")]
        return any(set(mode) & set("wax+") for mode in modes)
    return name == "save" and "Image" in of and not (call.args and ast.unparse(call.args[0]) == "buffer")


def unguarded(tree: ast.AST, function: str = "", guarded: bool = False) -> Iterator[tuple[str, int]]:
    """The function and the line of each call that writes outside of a `with replacing(…)`."""
    for node in ast.iter_child_nodes(tree):
        inside, where = guarded, function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            where = node.name
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            names = {ast.unparse(call.func) for call in calls if isinstance(call, ast.Call)}
            inside = guarded or bool(names & WHOLE)
        if isinstance(node, ast.Call) and writes(node) and not inside:
            yield where, node.lineno
        yield from unguarded(node, where, inside)


def modules() -> list[str]:
    return [
        path.relative_to(ROOT).as_posix()
        for floor in ("common", "preparation", "training", "evaluation", "assets", "pipelines")
        for path in sorted((ROOT / floor).rglob("*.py"))
    ]


@pytest.mark.parametrize("name", modules())
def test_files_are_written_whole_or_not_at_all(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    found = {(where, line) for where, line in unguarded(tree) if where not in ALLOWED.get(name, {})}
    assert not found, "write through common.files: write_text, replacing or replacing_folder"


def test_the_exceptions_are_still_there_and_say_why() -> None:
    for name, functions in ALLOWED.items():
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        assert set(functions) <= {where for where, _ in unguarded(tree)}, name
        assert all(len(why) > 15 for why in functions.values())


@pytest.mark.parametrize(
    "text",
    [
        "path.write_text('x')", "save_file({}, path)", "open(path, 'w')", "path.open('ab')", "path.open(mode='x')",
        "figure.savefig(path)", "Image.fromarray(x).save(path)", "with other(path) as p:\n p.write_bytes(b'')",
        "table.to_csv(path)", "shutil.copyfile(a, b)", "os.fdopen(number, 'w')",
    ],
)  # fmt: skip
def test_a_writer_without_a_neighbour_is_found(text: str) -> None:
    assert list(unguarded(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "with replacing(path) as p:\n p.write_text('x')", "write_text(path, 'x')", "path.open()", "open(path, 'rb')",
        "with a() as b, replacing_folder(c) as d:\n save_file({}, d)", "Image.fromarray(x).save(buffer, 'PNG')",
    ],
)  # fmt: skip
def test_what_reads_or_replaces_is_none(text: str) -> None:
    assert not list(unguarded(ast.parse(text)))
