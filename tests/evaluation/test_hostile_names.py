"""Names that are code elsewhere: every chart, table and CSV shows them as the letters that they are."""

from __future__ import annotations

import ast
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from assets.stage.metadata import drawing, table
from evaluation.experiments.paper.figures import validation_curves
from evaluation.experiments.paper.sweep_tables import lines
from evaluation.experiments.study import figures as study_figures
from evaluation.experiments.study.page import table as page_table
from evaluation.experiments.study.summary import Gain, Results
from evaluation.figures import charts as figures
from evaluation.figures.clients import client_distances, client_sizes
from evaluation.figures.rounds import round_curves
from evaluation.nightly.figures import nights_plot
from evaluation.nightly.nights import Night, night_metrics
from evaluation.report import files as paper_files
from evaluation.tables.columns import read_csv, to_csv, to_html, to_latex, to_markdown
from preparation.clients.report import ClientReport, ClientRow
from tests.common.text.test_foreign import HOSTILE
from tests.evaluation.figures.test_rounds import line

ROOT = Path(__file__).resolve().parents[2]
FRAMES = np.zeros((2, 8, 8, 3), np.uint8)


def report(names: tuple[str, ...]) -> ClientReport:
    rows = [ClientRow(name, n + 3, n + 1, 1, 1, 2.0 * n, 1, False, n, 0.5, 0.3, 0.8) for n, name in enumerate(names)]
    return ClientReport(rows, 40, 0.2, 1.5, 0.5, 0.2, 0.3, 0.1, 0.8)


def sweep(name: str) -> Figure:
    drawn = pd.DataFrame({"method": [name] * 2, "m": [1, 2], "gain": [0.1, 0.2], "gain_error": [0.0, 0.1]})
    return lines(drawn, name)


def rounds(name: str) -> Figure:
    lines_ = [line(1), line(2)]
    for one in lines_:
        one["simulation"]["losses"] = {name: 0.2, "total": 0.2}
    return round_curves(lines_)


def nights(name: str) -> Figure:
    two = [
        Night(f"2026-01-0{day}", "a", 9, 9, "s", {name: "1"}, {}, {name: {night_metrics()[0]: 0.1 * day}})
        for day in (1, 2)
    ]
    return nights_plot(two)


def study(name: str, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The study's figure of gains whose curve has the name; where they come from is the study's own tests' matter."""
    found = [Gain(x, name, 0.1, 0.0, 0.2, 9, 5, 2, 2, 0.01) for x in (1.0, 2.0)]
    monkeypatch.setattr(study_figures, "gains", lambda *_: found)
    figure = study_figures.curves(Results.__new__(Results))
    assert figure is not None
    return figure


def by_round(name: str) -> Figure:
    return validation_curves(
        pd.DataFrame({"method": [name] * 2, "round": [1, 2], "mean": [1.0, 2.0], "min": [0.9, 1.8], "max": [1.1, 2.2]})
    )


CHARTS = {
    "curves": lambda name: figures.curves({name: [(0, 1), (1, 2)], "b": [(0, 2)]}, name, name, baseline=(name, 1.0)),
    "log curves": lambda name: figures.curves({name: [(0, 1), (1, 200)]}, name, name, log=True),
    "client gains": lambda name: figures.client_gains({name: {name: 0.1, "b": 0.2}, "m": {name: 0.3}}, name),
    "client sizes": lambda name: client_sizes(report((name, "b"))),
    "client distances": lambda name: client_distances(report((name, "b"))),
    "rounds": rounds,
    "sweep": sweep,
    "validation": by_round,
    "nights": nights,
}


def texts(figure: Figure) -> str:
    drawn: list[Any] = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " ".join(text.get_text() for text in drawn)


DRAWN = (
    "a$b_{$",
    "\\$",
    "$",
    "x^2_y%z#~",
    "line\nbreak",
    "<b>&amp;",
    "\u202egnp",
    "\U0001f600" * 60,
    "x" * 5000,
    "_hidden",
)


UNNAMED = {"rounds", "validation"}
"""With one curve they have no legend."""


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_draws_every_name(chart: str) -> None:
    for name in DRAWN:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure = CHARTS[chart](name)
            assert figures.svg(figure).startswith("<svg")
        letters = [one for one in name if one.isalnum() and one.isascii()][:10]
        assert chart in UNNAMED or all(letter in texts(figure) for letter in letters), name


def test_the_study_draws_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DRAWN[:4]:
        assert figures.svg(study(name, monkeypatch)).startswith("<svg")


def test_files_and_metadata_take_such_a_figure(tmp_path: Path) -> None:
    figure = CHARTS["client sizes"]("a$b_{$")
    figures.save(figure, tmp_path / "chart.png")
    assert drawing(figure)


def test_dollar_signs_are_drawn_and_not_computed() -> None:
    figure = CHARTS["client sizes"]("a$x^2$b")
    figure.canvas.draw()
    shown = [label for label in figure.axes[0].get_xticklabels() if "x^2" in label.get_text()]
    (label,) = shown
    assert label._preprocess_math(label.get_text()) == ("a$x^2$b", False)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_sheets_and_grids_are_of_bounded_size(name: str) -> None:
    assert figures.contact_sheet([(name, FRAMES), ("b", FRAMES)], columns=2, tile=16).shape[1] < 1500
    assert figures.labelled_grid([(name, FRAMES), ("b", FRAMES)], tile=16).shape[0] == 2


def test_names_in_legends_are_not_hidden_by_an_underscore() -> None:
    legend = CHARTS["sweep"]("_hidden").axes[0].get_legend()
    assert legend is not None and len(legend.get_texts()) == 1


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_tables_hold_the_name_and_nothing_else(name: str, tmp_path: Path) -> None:
    whole = pd.DataFrame(
        {"Client": [name, "plain"], "Gain": [-0.25, 0.5], "n": [1, -2], name: ["-0.1* [-0.2, 0.1]", None]}
    )
    written = tmp_path / "table.csv"
    written.write_text(to_csv(whole), newline="")
    again = read_csv(written)
    assert list(again.columns)[:3] == list(whole.columns)[:3]
    assert again["Gain"].tolist() == [-0.25, 0.5] and again["n"].tolist() == [1, -2]
    assert again["Client"].str.replace("\r", "\n").tolist() == [name.replace("\r", "\n"), "plain"] or "\x00" in name
    raw = pd.read_csv(io.StringIO(to_csv(whole)), dtype=str)
    assert raw["Gain"].tolist() == ["-0.25", "0.5"] and raw.iloc[0, 3] == "-0.1* [-0.2, 0.1]"
    assert len(to_markdown(whole).splitlines()) == 4 and len(to_latex(whole).splitlines()) == 8
    assert "<img" not in to_html(whole) + to_markdown(whole)
    for path in paper_files.write_table(tmp_path / "paper", whole, name):
        assert path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_the_pages_tables_keep_their_shape(name: str) -> None:
    lines_ = page_table(["a", name], [[name, "1"]]).splitlines()
    assert len(lines_) == 3 and lines_[1] == "| --- | --- |" and "<img" not in "".join(lines_)


def test_ordinary_tables_are_written_as_before() -> None:
    whole = pd.DataFrame({"a": [1, None], "b": ["x", "-0.5"], "c": [0.1, -2.0]}).astype({"a": object})
    assert to_csv(whole) == whole.to_csv(index=False, lineterminator="\n")
    assert to_csv(pd.DataFrame(columns=["Method", "n"])) == "Method,n\n" and to_csv(pd.DataFrame()) == "\n"
    twice = pd.DataFrame([[1, "=x"]], columns=["a", "a"])
    assert to_csv(twice) == "a,a\n1,'=x\n"


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_dagsters_tables_take_every_name(name: str) -> None:
    shown = table([{"client": name, "n": -1}])
    assert "\n" not in shown.records[0].data["client"] and shown.records[0].data["n"] == -1


FLOORS = ("common", "preparation", "training", "evaluation", "assets", "pipelines", "benchmarks")
TEXT_CALLS = {"set_title", "set_xlabel", "set_ylabel", "set_xticklabels", "set_yticklabels", "suptitle", "annotate"}


def sources() -> list[Path]:
    return [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def test_only_the_helper_writes_csv() -> None:
    for path in sources():
        text = path.read_text()
        if path == ROOT / "evaluation" / "tables" / "columns.py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                assert node.attr != "to_csv", f"{path}: give the table to evaluation.tables.columns.to_csv"
                assert (owner, node.attr) not in {("csv", "writer"), ("csv", "DictWriter"), ("np", "savetxt")}, path
                assert (owner, node.attr) != ("pd", "read_csv"), (
                    f"{path}: evaluation.tables.columns.read_csv undoes the marks"
                )


def test_text_that_comes_from_data_reaches_a_chart_through_the_helper() -> None:
    """A label, title or tick that is no constant, nor made of numbers alone, is `label_of(...)`."""
    for path in sources():
        text = path.read_text()
        if "matplotlib" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            given = [word.value for word in node.keywords if word.arg == "label"]
            given += node.args[:1] if node.func.attr in TEXT_CALLS else []
            for value in given:
                assert _is_safe(value), f"{path}:{value.lineno}: {ast.unparse(value)}"


CONSTANT = ("AXES[", "FIGURES[", "f'C = {", "f'{len(", "f'{whose} to backbone", "split", "label", "y_label", "'fall of")


def _is_safe(value: ast.expr) -> bool:
    told = ast.unparse(value)
    called = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "label_of"
    return isinstance(value, ast.Constant) or called or told.startswith(CONSTANT)
