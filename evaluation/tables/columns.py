"""Tables from results: the catalogue's metrics as columns, and Markdown, CSV, LaTeX or HTML from the same rows."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.text.foreign import from_spreadsheet_cell, latex_text, markdown_cell, spreadsheet_cell
from evaluation.catalogue import BACKBONE, GATES, Metric

SIGNIFICANT = 0.05
MARK = "*"


@dataclass(frozen=True)
class Cell:
    """One figure as text, its 95 % interval, the mark of a significant difference, and whether it is the best."""

    value: str
    interval: str
    mark: str
    best: bool

    @property
    def text(self) -> str:
        return f"{self.value}{self.mark} {self.interval}" if self.interval else f"{self.value}{self.mark}"


@dataclass(frozen=True)
class Row:
    """A method's figures from `n` clips; gates are shown apart and never count as the best."""

    method: str
    gate: bool
    n: int
    cells: tuple[Cell, ...]


MISSING = "–"


def table_rows(
    methods: Mapping[str, Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    columns: Sequence[Metric],
) -> list[Row]:
    """Rows of `results["methods"]`, methods first and gates last; `*` marks p (Holm) < 0.05 to the backbone."""
    significant = {
        (one["method"], one["metric"])
        for one in comparisons
        if one["baseline"] == BACKBONE and one["p_holm"] is not None and one["p_holm"] < SIGNIFICANT
    }
    names = [name for name in methods if name not in GATES] + [name for name in GATES if name in methods]
    best = {column.key: _best(methods, column) for column in columns}
    return [
        Row(
            method=name,
            gate=name in GATES,
            n=int(methods[name].get("n", 0)),
            cells=tuple(
                _cell(methods[name], column, (name, column.key) in significant, best[column.key] == name)
                for column in columns
            ),
        )
        for name in names
    ]


def measured(columns: Sequence[Metric], methods: Mapping[str, Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The columns in which some method has a value."""
    return tuple(column for column in columns if any(method.get(column.key) is not None for method in methods.values()))


def as_frame(rows: Sequence[Row], columns: Sequence[Metric]) -> pd.DataFrame:
    """The rows as a table of text cells, for the writers below."""
    return pd.DataFrame(
        [[row.method, row.n, *(cell.text for cell in row.cells)] for row in rows],
        columns=["Method", "n", *(column.heading for column in columns)],
    )


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table in which every cell is plain text, whatever characters it has."""
    lines = [list(table.columns), *table.astype(object).values.tolist()]
    head, *body = ("| " + " | ".join(markdown_cell(_text(cell)) for cell in line) + " |" for line in lines)
    return "\n".join([head, "|" + " --- |" * len(table.columns), *body]) + "\n"


def to_csv(table: pd.DataFrame, float_format: str | None = None) -> str:
    """The table as CSV; all CSV files are written here.

    Text that a spreadsheet would take for a formula is marked as text; numbers stay as they are. `read_csv` gives the
    same cells back, except that carriage returns become line feeds.
    """
    buffer = io.StringIO()
    _texts(table, lambda text: spreadsheet_cell(text.replace("\r", "\n"))).to_csv(
        buffer, index=False, lineterminator="\n", float_format=float_format
    )
    return buffer.getvalue()


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A table that `to_csv` wrote; `options` as pandas' `read_csv` takes them."""
    return _texts(pd.read_csv(path, **options), from_spreadsheet_cell)


def _texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with `change` applied to all text, headings included; values of other types stay as they are."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, str) else value

    columns = [
        table.iloc[:, place]
        if pd.api.types.is_numeric_dtype(kind)
        else pd.Series([changed(value) for value in table.iloc[:, place]], table.index, dtype=kind)
        for place, kind in enumerate(table.dtypes)
    ]
    whole = pd.concat(columns, axis="columns") if columns else table
    return whole.set_axis([changed(name) for name in table.columns], axis="columns")


def to_latex(table: pd.DataFrame) -> str:
    """A LaTeX tabular with booktabs rules; the first column is aligned left, the figures right."""
    header, *body = (
        " & ".join(latex_text(_text(cell)) for cell in line) + r" \\"
        for line in [list(table.columns), *table.astype(object).values.tolist()]
    )
    columns = "l" + "r" * (len(table.columns) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule", *body, r"\bottomrule",
         r"\end{tabular}", ""]
    )  # fmt: skip


def to_html(table: pd.DataFrame) -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(cells, "td") for cells in table.values.tolist())
    return f"<table><thead>{line(list(table.columns), 'th')}</thead><tbody>{body}</tbody></table>"


def bounds_of(method: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """The ends of a figure's 95 % interval, None where it has none.

    Figures of all clips together keep them as `METRIC_low` and `METRIC_high`, others as the pair `METRIC_ci`.
    """
    low, high = method.get(f"{metric}_ci") or (method.get(f"{metric}_low"), method.get(f"{metric}_high"))
    return None if low is None or high is None else (low, high)


def _text(value: object) -> str:
    return (
        MISSING if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) else str(value)
    )


def _cell(method: Mapping[str, Any], column: Metric, significant: bool, best: bool) -> Cell:
    value, bounds = method.get(column.key), bounds_of(method, column.key)
    if value is None:
        return Cell(MISSING, "", "", best=False)
    return Cell(
        f"{value:.{column.digits}f}",
        "" if bounds is None else "[{:.{digits}f}, {:.{digits}f}]".format(*bounds, digits=column.digits),
        MARK if significant else "",
        best,
    )


def _best(methods: Mapping[str, Mapping[str, Any]], column: Metric) -> str | None:
    known = {
        name: method[column.key]
        for name, method in methods.items()
        if name not in GATES and method.get(column.key) is not None
    }
    if column.better == "neither" or len(known) < 2:
        return None
    extreme = (max if column.better == "higher" else min)(known.values())
    winners = [name for name, value in known.items() if value == extreme]
    return winners[0] if len(winners) == 1 else None
