"""The results of mutants, and the review of the survivors."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutants.operators import Mutant
from benchmarks.mutants.targets import read

REVIEW = Path(__file__).with_name("reviewed.toml")


@dataclass(frozen=True)
class Result:
    """The outcome, "killed" or "survived", and the test that killed it, or why no test could."""

    outcome: str
    by: str


def load_groups(path: Path = REVIEW) -> list[dict[str, Any]]:
    """The review as it is kept: `why`, and the `mutants` to which it applies."""
    return list(tomllib.loads(path.read_text(encoding="utf-8")).get("reason", [])) if path.exists() else []


def load_review(path: Path = REVIEW) -> dict[str, str]:
    """Survivor → why it weakens no secret."""
    return {identity: group["why"] for group in load_groups(path) for identity in group["mutants"]}


def diff_of(mutant: Mutant) -> str:
    """The lines that differ, with their numbers."""
    lines = difflib.unified_diff(
        read(mutant.file).splitlines(), mutant.source.splitlines(), mutant.file, mutant.file, lineterm="", n=0
    )
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


def table_of(mutants: Sequence[Mutant], results: Mapping[str, Result]) -> str:
    """A Markdown table: file, mutants, killed, survived."""
    rows = ["| file | mutants | killed | survived |", "|---|---:|---:|---:|"]
    files = list(dict.fromkeys(mutant.file for mutant in mutants))
    for file in [*sorted(files), ""]:
        outcomes = [results[mutant.identity].outcome for mutant in mutants if not file or mutant.file == file]
        killed = outcomes.count("killed")
        rows.append(f"| {(file and f'`{file}`') or 'all'} | {len(outcomes)} | {killed} | {len(outcomes) - killed} |")
    return "\n".join(rows)
