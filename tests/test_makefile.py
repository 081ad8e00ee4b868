"""`make` in a folder, and with a Python, whose paths hold spaces and umlauts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "Größe mit Leer zeichen" / "privfedtalk"
    folder.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    # A make of its own, also where these tests run under one, which would say what folders it enters and share options.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=project, env=ours, capture_output=True, text=True, check=False)


def test_every_target_names_files_by_relative_paths(project: Path) -> None:
    targets = [line.split()[1] for line in make(project, "help").stdout.splitlines()]
    assert {"setup", "demo", "test", "clean"} <= set(targets)
    for target in targets:
        done = make(project, "-n", target)
        assert done.returncode == 0, done.stderr
        assert str(project) not in done.stdout


def test_a_python_whose_path_holds_spaces_is_run(project: Path) -> None:
    python = project / "mein Python" / "python3.11"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\ntest "$1" = -V && echo "Python 3.9 of the test" && exit 0\nexec {sys.executable} -c "exit(1)"\n'
    )
    python.chmod(0o755)
    done = make(project, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"Python 3.11, 3.12 or 3.13 is needed; '{python}' is Python 3.9 of the test." in done.stderr


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"python3": (3, 13), "python3.13": (3, 13)}, "python3.13"),
        ({"python3": (3, 12), "python3.12": (3, 12), "python3.11": (3, 11)}, "python3.11"),
        ({"python3": (3, 14), "python3.12": None, "python3.13": (3, 13)}, "python3.13"),
        ({"python3": (3, 12)}, "python3"),
        ({"python3": (3, 14), "python3.12": None}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_a_python_that_is_there_and_runs_is_chosen(
    project: Path, monkeypatch: pytest.MonkeyPatch, there: dict[str, tuple[int, int] | None], chosen: str
) -> None:
    """None: a name on the PATH that does not run, as version managers leave them behind."""
    commands = project / "bin"
    commands.mkdir()
    for needed in ("make", "sh", "bash", "awk", "uname"):
        if found := shutil.which(needed):
            (commands / needed).symlink_to(found)
    for name, version in there.items():
        code = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
        (commands / name).write_text(
            f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$2"\n' if version else "#!/bin/sh\nexit 127\n"
        )
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands))
    done = make(project, "-n", "setup")
    if chosen:
        assert f'"{chosen}" -m venv .venv' in done.stdout
    else:
        done = make(project, "setup")
        assert done.returncode != 0 and "3.11, 3.12 or 3.13 is needed and none is on the PATH" in done.stderr
