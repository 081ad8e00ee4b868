"""The house stands: lower floors never look up, and every file is small enough to read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ["common", "preparation", "training", "evaluation", "assets", "pipelines"]
WITHOUT_DAGSTER = ["common", "preparation", "training", "evaluation"]
LONGEST_FILE = 400


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
