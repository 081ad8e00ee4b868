"""The house stands: lower floors never look up, and every file is small enough to read."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ["common", "preparation", "training", "evaluation", "assets", "pipelines"]
WITHOUT_DAGSTER = ["common", "preparation", "training", "evaluation"]
LONGEST_FILE = 400
MOST_BOXES = 12
"""Files and rooms that one room holds, at most: as many as somebody can look over."""
ROOM_ORDER = {
    "preparation": ["media", "corpora", "faces", "crops", "speech", "clients", "shards"],
    "training": ["model", "learning", "adapters", "generation", "privacy", "federation", "execution", "claims"],
    "evaluation": ["metrics", "catalogue", "measuring", "results", "tables", "report"],
}
"""The way of a clip, of an update and of a figure, from left to right."""


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def named(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: the floor does not show"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_no_floor_imports_a_higher_one(floor: str) -> None:
    higher = set(FLOORS[FLOORS.index(floor) + 1 :])
    looked_up = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(floor)
        for module in imports_of(path)
        if module.partition(".")[0] in higher
    }
    assert not looked_up


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def arrows() -> dict[str, set[str]]:
    """Each module of the house → the modules that it imports, inside functions and for types alone too."""
    modules = {module_name(path): path for path in sources(*FLOORS)}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        named_in = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named_in |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named_in |= {
                    full if (full := f"{node.module}.{alias.name}") in modules else str(node.module)
                    for alias in node.names
                }
        found[module] = (named_in & set(modules)) - {module}
    return found


def box_in(room: str, module: str) -> str | None:
    """The file or room inside `room` that a module belongs to."""
    inside = module.removeprefix(f"{room}.") if room else module
    return None if inside == module and room else inside.partition(".")[0]


def rooms() -> list[str]:
    return sorted({"", *(module.rpartition(".")[0] for module in arrows() if "." in module)})


def arrows_within(room: str) -> dict[str, set[str]]:
    """Each box of a room → the other boxes of the room that it leans on."""
    found: dict[str, set[str]] = {}
    for module, imported in arrows().items():
        box = box_in(room, module)
        if box is not None:
            found.setdefault(box, set()).update(b for m in imported if (b := box_in(room, m)) and b != box)
    return found


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of a graph, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert not circle_in(arrows())


@pytest.mark.parametrize("room", rooms())
def test_the_boxes_of_a_room_lean_on_each_other_in_one_direction(room: str) -> None:
    assert not circle_in(arrows_within(room))


@pytest.mark.parametrize("room", rooms())
def test_a_room_can_be_looked_over(room: str) -> None:
    assert len(arrows_within(room)) <= MOST_BOXES


@pytest.mark.parametrize("floor", ROOM_ORDER)
def test_rooms_lean_to_the_left(floor: str) -> None:
    order, within = ROOM_ORDER[floor], arrows_within(floor)
    back = [(box, on) for box in order for on in within[box] if on in order and order.index(on) > order.index(box)]
    assert not back


def test_only_the_upper_floors_know_dagster() -> None:
    tops = {"dagster", "dagster_shared", "dagster_webserver"}
    knowing = {
        str(path.relative_to(ROOT))
        for path in sources(*WITHOUT_DAGSTER)
        if {module.partition(".")[0] for module in imports_of(path)} & tops
    }
    assert not knowing


def test_lower_floors_import_on_a_machine_without_dagster() -> None:
    modules = [name[:-3].replace("/", ".").removesuffix(".__init__") for name in named(sources(*WITHOUT_DAGSTER))]
    script = (
        "import importlib, sys\n"
        "for name in ('dagster', 'assets', 'pipelines', 'typer'):\n"
        "    sys.modules[name] = None\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", named(sources(*FLOORS, "tests", "benchmarks")))
def test_files_are_short_enough_to_read(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= LONGEST_FILE


def test_no_path_of_one_machine() -> None:
    absolute = re.compile(r"[\"'`(= ]/(?:home|root|work|Users|mnt|opt)/\w")
    written = [*sources(*FLOORS, "tests", "benchmarks"), *ROOT.glob("*.y*ml"), ROOT / "Makefile", ROOT / "README.md"]
    written += (ROOT / "docs").rglob("*.md")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in written
        if path.exists()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if absolute.search(line)
    ]
    assert not found
