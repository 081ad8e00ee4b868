"""The part of docs/security.md that a whole run writes: figures, and the survivors with the reason of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.mutants.operators import Mutant
from benchmarks.mutants.results import REVIEW, Result, load_groups, table_of
from benchmarks.mutants.targets import ROOT
from benchmarks.page_sections import write_section

PAGE = ROOT / "docs" / "security.md"
MARK = "<!-- Below: written by `make mutants` -->"


def write_page(
    mutants: Sequence[Mutant], results: Mapping[str, Result], minutes: float | None, workers: int, page: Path = PAGE
) -> None:
    """Write the section. minutes: of a run without a break; workers: processes side by side."""
    named = [mutant for mutant in mutants if mutant.name]
    killed = sum(results[mutant.identity].outcome == "killed" for mutant in named)
    took = f" in {minutes:.0f} minutes, {workers} at a time" if minutes is not None else ", in several runs"
    lines = [
        MARK,
        "## What the last run found",
        "",
        f"{len(mutants)} mutants{took}. Of the {len(named)} written by hand {killed} were killed.",
        "",
        table_of(mutants, results),
        "",
        "## Survivors, and why they weaken no secret",
        "",
        f"Each survivor was read; the whole list is `{REVIEW.relative_to(ROOT)}`, by these reasons.",
        "",
        "| survivors | why |",
        "|---:|---|",
        *(f"| {len(group['mutants'])} | {group['why']} |" for group in load_groups()),
    ]
    write_section(page, MARK, "\n".join(lines))
