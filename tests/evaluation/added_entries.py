"""Prints as JSON where a metric `sharpness` and a method `fedmedian` arrive: run in a tree that has both.

python -m tests.evaluation.added_entries FOLDER
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from assets.stage.partitions import evaluated_methods, federated_methods
from common.folders import RunFolder
from evaluation.catalogue import models_in
from evaluation.measuring.protocol import COLUMNS, evaluate_method, summarise
from evaluation.metrics.interface import Networks
from evaluation.nightly.figures import nights_plot
from evaluation.nightly.nights import Night
from evaluation.report.files import write_table
from evaluation.report.page import ReportData, write_report
from evaluation.results.card import card_figures
from evaluation.results.document import assemble, read_results, write_results
from evaluation.tables import paper
from pipelines.configuration.tree import load
from pipelines.terminal.completion import methods
from pipelines.terminal.documents import results_document
from pipelines.terminal.summary import show_results
from tests.evaluation.made_up_run import CLIENTS, make_facts, make_table
from tests.evaluation.measuring.test_protocol import DarkRows, listener, make_clip
from training.adapters.cards import Card
from training.federation.methods import configure

METRIC, METHOD = "sharpness", "fedmedian"


def with_entries(role: str, clients: list[str]) -> pd.DataFrame:
    """The made-up run's rows, FedMedian's beside FedAvg's, and a sharpness of every clip; noise is least sharp."""
    table = make_table(clients, role)
    table = pd.concat([table, table[table["method"] == "fedavg"].assign(method=METHOD)])
    clips = table[["method", "role", "client", "clip_id"]].drop_duplicates()
    value = clips["method"].map({"noise": 1.0}).fillna(5.0) + clips["client"].str[-1].astype(float)
    return pd.concat([table, clips.assign(metric=METRIC, value=value)[COLUMNS]], ignore_index=True)


def results_of() -> dict[str, Any]:
    facts = make_facts()
    losses = dict(facts.validation_losses) | {METHOD: dict.fromkeys(CLIENTS, 0.1)}
    table = pd.concat([with_entries("client", CLIENTS), with_entries("unseen", ["u0000", "u0001"])])
    return assemble(table, make_facts(losses))


def measured() -> dict[str, float]:
    """The new metric of clips that the new method made, by the protocol itself."""
    clips = [make_clip(index, f"c{index}") for index in range(2)]
    rows = evaluate_method(METHOD, listener, clips, Networks(opening=DarkRows(), identity=DarkRows()))
    return {metric: found.mean for metric, found in summarise(rows)[METHOD].items()}


def nightly() -> list[str]:
    """Every text of the figure over two nights."""
    nights = [
        Night(f"2026-01-0{day}", "a", 9, 9, "s", {METHOD: "1"}, {}, {METHOD: {METRIC: 0.1 * day}}) for day in (1, 2)
    ]
    figure = nights_plot(nights)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    return titles + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def summary(root: Path) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        show_results(root)
    return printed.getvalue()


def arrivals(folder: Path) -> dict[str, Any]:
    run = RunFolder(folder)
    results = results_of()
    write_results(results, run.results)
    figures, measured_on = card_figures(run, METHOD)
    card = Card(METHOD, "an adapter", {}, "none", figures, measured_on)
    page = write_report(folder / "report", ReportData(results=results))
    table = paper.comparison(results, models_in("main"))
    return {
        "rows": measured(),
        "results": read_results(run.results),
        "page": page.read_text(encoding="utf-8"),
        "tables": {path.suffix: path.read_text(encoding="utf-8") for path in write_table(folder / "table1", table, "")},
        "nightly": nightly(),
        "summary": summary(folder),
        "document": json.loads(json.dumps(results_document(folder), default=str)),
        "card": card.to_markdown(),
        "settings": list(load("demo", [f"training.methods=[{METHOD}]"]).training.methods),
        "noise": configure(METHOD, load("demo").training).privacy.mode,
        "completed": methods(),
        "partitions": [federated_methods.get_partition_keys(), evaluated_methods.get_partition_keys()],
    }


if __name__ == "__main__":
    json.dump(arrivals(Path(sys.argv[1])), sys.stdout)
