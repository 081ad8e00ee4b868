"""One place knows what the files of a run are called."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from common import folders

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("common", "preparation", "training", "evaluation", "assets", "pipelines")
NAMES = {value for name, value in vars(folders).items() if name.isupper()}
OTHERS = {
    "training/model/autoencoders/sources.py": "reads folders that diffusers wrote",
    "common/weights/hub.py": "reads a hub's folders",
}
"""Files of others that happen to be called the same."""


@pytest.mark.parametrize(
    "path", sorted(str(p.relative_to(ROOT)) for floor in FLOORS for p in (ROOT / floor).rglob("*.py"))
)
def test_no_other_module_writes_a_name_out(path: str) -> None:
    if path == "common/folders.py" or path in OTHERS:
        return
    literals = {node.value for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Constant)}
    assert not NAMES & {each for each in literals if isinstance(each, str)}
