"""The quarantine table: every file that was left out, with the step, the reason and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import replacing, sweep
from common.locks import one_at_a_time

if TYPE_CHECKING:
    import pandas as pd

TWINS = "twins"
"""The step whose rows are notes only: the files that they name are used."""
PIECES = "pieces"
"""The step whose rows are about a part of a recording, named by its time; other parts of the file may be used."""
COLUMNS = ["file", "step", "reason", "remedy"]


@dataclass(frozen=True)
class QuarantineRow:
    """One file that did not become samples: the step that refused it, the reason and the remedy."""

    file: str
    step: str
    reason: str
    remedy: str


def save_quarantine(rows: Iterable[QuarantineRow], path: Path) -> None:
    """Write the table as Parquet, sorted and without repetitions, so that equal runs write equal files."""
    import pandas as pd  # a second to import, which worker processes need not pay

    unique = sorted(set(rows), key=lambda row: (row.file, row.step, row.reason))
    table = pd.DataFrame([asdict(row) for row in unique], columns=COLUMNS, dtype="str")
    write_parquet(table, path)


def load_quarantine(path: Path) -> list[QuarantineRow]:
    """The rows of a table; an absent table is an empty one."""
    import pandas as pd

    if not path.exists():
        return []
    return [QuarantineRow(*map(str, row)) for row in pd.read_parquet(path)[COLUMNS].itertuples(index=False)]


def replace_rows(
    path: Path, steps: Iterable[str], rows: Iterable[QuarantineRow], files: Collection[str] | None = None
) -> None:
    """Replace the rows of these steps by new ones; rows of other steps stay.

    A step that ran over some clients only gives their `files`, and rows of all other files stay. Several processes may
    do so at once, each with its own clients: the table is locked from reading to writing.
    """
    replaced = set(steps)
    with one_at_a_time(path.with_name(f".{path.name}.lock")):
        sweep(path.parent)
        others = [
            row
            for row in load_quarantine(path)
            if row.step not in replaced or (files is not None and row.file not in files)
        ]
        save_quarantine([*others, *rows], path)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table through a temporary file, so that a killed run leaves either the old table or the new one."""
    with replacing(path) as partial:
        table.to_parquet(partial, index=False)
