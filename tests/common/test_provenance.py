"""A module's version follows what runs, wherever it is imported, and nothing that people alone read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from common.provenance import SourceTree, code_of, project_sources
from preparation.crops import crop
from preparation.shards import samples
from tests.test_floors import arrows

PLAIN = "def double(value):\n    return 2 * value\n"


def text(source: str) -> str:
    return code_of(ast.parse(source)).text


@pytest.mark.parametrize(
    "same",
    [
        "def double(value):\n    # twice\n    return 2 * value  # of it\n",
        '"""A module."""\n\n\ndef double(value):\n    """Twice."""\n    return 2 * value\n',
        "def double(\n    value,\n):\n    return (\n        2\n        * value\n    )\n",
        "def double(value): return 2*value",
        "if TYPE_CHECKING:\n    from x import Y\n\n" + PLAIN,
    ],
)
def test_comments_docstrings_and_formatting_are_no_code(same: str) -> None:
    assert text(same) == text(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        "def double(value):\n    return value * 2\n",
        "def double(value):\n    return 3 * value\n",
        "def double(value):\n    return 2.0 * value\n",
        "def double(value, *, strict=True):\n    return 2 * value\n",
        "@cache\ndef double(value):\n    return 2 * value\n",
        "def double(value):\n    return '2 * value'\n",
    ],
)
def test_what_runs_otherwise_is_other_code(other: str) -> None:
    assert text(other) != text(PLAIN)


def test_what_belongs_where_is_seen() -> None:
    inner = "if a:\n    if b:\n        one()\n    else:\n        two()\n"
    outer = "if a:\n    if b:\n        one()\nelse:\n    two()\n"
    assert text(inner) != text(outer)
    assert text("A = 1\n'''What A is.'''\n") == text("A = 1\n") != text("A = '1'\n")
    assert text("'''An empty module.'''\n") == text("") and text("def f(): '''Nothing.'''") != text("def f(): g()")
    assert text("def f():\n    return ''\n") != text("def f():\n    return None\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of a few modules."""
    for name, content in {
        "common/__init__.py": "",
        "common/base.py": "VALUE = 1\n",
        "common/types.py": "class Shape: ...\n",
        "common/page/__init__.py": "STYLE = 1\n",
        "common/page/write.py": "import torch\n\n\ndef write():\n    return read('page.html')\n",
        "common/page/page.html": "<p>",
        "common/page/other.html": "<p>",
        "training/__init__.py": "",
        "training/lazy.py": (
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from common.types import Shape\n\n\n"
            "def late():\n    from common.page import write\n    import common.base as base\n    return base, write\n"
        ),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def version(root: Path) -> str:
    sources = SourceTree(root)
    return sources.digest(sources.closure(["training.lazy"]))


def test_a_closure_has_what_is_imported_late_and_the_packages_on_the_way_and_no_mere_types(tree: Path) -> None:
    found = SourceTree(tree).closure(["training.lazy"])
    assert found == {"training.lazy", "common", "common.base", "common.page", "common.page.write"}
    without = SourceTree(tree).closure(["training.lazy"], without=("common.page",))
    assert without == {"training.lazy", "common", "common.base"}


@pytest.mark.parametrize("name", ["common/base.py", "common/page/__init__.py", "common/page/page.html"])
def test_a_version_follows_all_that_decides(tree: Path, name: str) -> None:
    before = version(tree)
    with (tree / name).open("a", encoding="utf-8") as file:
        file.write("MORE = 1\n")
    assert version(tree) != before


@pytest.mark.parametrize("name", ["common/types.py", "common/page/other.html"])
def test_a_version_does_not_follow_what_is_beside(tree: Path, name: str) -> None:
    before = version(tree)
    with (tree / name).open("a", encoding="utf-8") as file:
        file.write("MORE = 1\n")
    assert version(tree) == before


def test_the_project_is_read_as_the_floors_are() -> None:
    """The same arrows as those of tests/test_floors.py, but for imports of types alone and packages."""
    sources = project_sources()
    assert set(sources.files) == set(arrows())
    packages = {name.rpartition(".")[0] for name in sources.files}
    for module, wanted in arrows().items():
        found = sources.source(module).imports
        assert found - packages <= wanted, module
        if "TYPE_CHECKING" not in sources.files[module].read_text(encoding="utf-8"):
            assert wanted <= found, module


MAKE_CROPS = {
    "preparation.crops": ("active_speaker", "crop", "footage", "quality", "scenes", "sync"),
    "preparation.faces": (
        *("alignment", "fan_tracker", "follower", "landmarks", "mediapipe_tracker", "track", "truth_tracker"),
    ),
    "preparation.media": ("container", "sound", "video", "writing", "track.decoding", "sound_track.timeline"),
}
MAKE_SHARDS = {
    "preparation.shards": ("samples", "references", "store"),
    "preparation.speech": ("mel", "features", "networks"),
    "preparation.faces": ("landmarks", "motion"),
}
"""The modules that somebody who knows what a crop and a shard are made of would name."""


@pytest.mark.parametrize(
    ("made_by", "without", "known"),
    [
        (crop.MADE_BY, crop.DECIDES_NOTHING, MAKE_CROPS),
        ((samples.__name__,), samples.DECIDES_NOTHING, MAKE_SHARDS),
    ],
)
def test_crops_and_shards_follow_their_makers_and_no_table(
    made_by: tuple[str, ...], without: tuple[str, ...], known: dict[str, tuple[str, ...]]
) -> None:
    found = project_sources().closure(made_by, without)
    assert {f"{room}.{name}" for room, names in known.items() for name in names} <= found
    assert not {name for name in found if not name.startswith("preparation")}
    assert not {"preparation.quarantine", "preparation.settings", "preparation.pipeline"} & found
    everything = project_sources().closure(made_by)
    assert all(any(name == left or name.startswith(f"{left}.") for name in everything) for left in without)
