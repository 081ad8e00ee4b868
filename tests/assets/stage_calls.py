"""Which function makes which asset's stage, as the sources of the asset floor say: every call of `Run.stage`."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from common.provenance import SourceTree, project_sources


@dataclass(frozen=True)
class StageCall:
    """`run.stage(asset, make, ...)` in a function of a module; `made_by` is the module and the name of `make`."""

    asset: str
    made_by: tuple[str, str]
    module: str
    function: str


@cache
def stage_calls() -> tuple[StageCall, ...]:
    """Every call, in the order of the files."""
    sources = project_sources()
    return tuple(
        _read(node, module, function, sources)
        for module in sorted(sources.files)
        if module.startswith("assets.")
        for function in sources.tree(module).body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "stage"
    )


def _read(call: ast.Call, module: str, function: ast.FunctionDef, sources: SourceTree) -> StageCall:
    asset, make = call.args
    if isinstance(make, ast.Call):  # partial(make, ...)
        make = make.args[0]
    assert isinstance(asset, ast.Name) and isinstance(make, ast.Name), ast.unparse(call)
    imported = {
        name: place
        for statement in [*sources.tree(module).body, *ast.walk(function)]
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for name, place in sources.imported(statement).items()
    }
    return StageCall(asset.id, imported.get(make.id, (module, make.id)), module, function.name)
