from __future__ import annotations

import io
from typing import Any

import pandas as pd

from evaluation.catalogue import shown_in
from evaluation.tables.columns import MISSING, as_frame, table_rows, to_csv, to_html, to_latex, to_markdown

METHODS: dict[str, dict[str, Any]] = {
    "noise": {"lip_correlation": 0.999, "n": 4},
    "backbone": {"lip_correlation": 0.95, "lip_correlation_ci": [0.941, 0.958], "opening_error": 0.08, "n": 4},
    "fed_avg": {
        "lip_correlation": 0.94,
        "lip_correlation_low": 0.93,
        "lip_correlation_high": 0.95,
        "opening_error": 0.05,
        "n": 4,
    },
}
COLUMNS = shown_in("headline")[:2]
SIGNIFICANT = [
    {"method": "fed_avg", "baseline": "backbone", "metric": "opening_error", "p_holm": 0.02},
    {"method": "fed_avg", "baseline": "backbone", "metric": "lip_correlation", "p_holm": 0.4},
]


def test_gates_come_last_and_never_win() -> None:
    rows = table_rows(METHODS, SIGNIFICANT, COLUMNS)
    assert [row.method for row in rows] == ["backbone", "fed_avg", "noise"]
    assert [row.gate for row in rows] == [False, False, True]
    assert [row.cells[0].best for row in rows] == [True, False, False]
    assert [row.cells[1].best for row in rows] == [False, True, False]  # lower is better


def test_only_significant_differences_are_marked() -> None:
    table = as_frame(table_rows(METHODS, SIGNIFICANT, COLUMNS), COLUMNS)
    assert list(table["Lip correlation ↑"]) == ["0.950 [0.941, 0.958]", "0.940 [0.930, 0.950]", "0.999"]
    assert list(table["Opening error ↓"]) == ["0.080", "0.050*", MISSING]


def test_a_tie_has_no_best() -> None:
    tied = {name: {"lip_correlation": 1.0} for name in ("a", "b")}
    assert not any(row.cells[0].best for row in table_rows(tied, (), COLUMNS))


def test_the_same_cells_in_every_format() -> None:
    table = as_frame(table_rows(METHODS, SIGNIFICANT, COLUMNS), COLUMNS)
    markdown = to_markdown(table).splitlines()
    assert markdown[0] == "| Method | n | Lip correlation ↑ | Opening error ↓ |"
    assert markdown[3] == "| fed_avg | 4 | 0.940 [0.930, 0.950] | 0.050* |"
    assert pd.read_csv(io.StringIO(to_csv(table)), dtype=str).values.tolist() == table.astype(str).values.tolist()
    latex = to_latex(table)
    assert r"fed\_avg & 4 & 0.940 [0.930, 0.950] & 0.050* \\" in latex and r"\begin{tabular}{lrrr}" in latex
    assert "<td>0.950 [0.941, 0.958]</td>" in to_html(table)
    assert "&lt;b&gt;" in to_html(pd.DataFrame({"x": ["<b>"]}))
