"""Writes the paper's figures over all seeds: Figure 3 with its numbers, gains by client, the qualitative grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.files import write_text
from evaluation.catalogue import has_shared_adapter
from evaluation.experiments.paper.folders import PaperFolder
from evaluation.figures.charts import client_gains, colour_of, curves, save
from evaluation.report.files import write_qualitative
from evaluation.results.run_files import gains, public_curve
from evaluation.settings import EvaluationSettings
from evaluation.tables.columns import to_csv

KINDS = ("png", "svg")


def write_validation_curves(paper: PaperFolder, methods: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """Write Figure 3, public validation loss by round, mean over seeds with a band over the seeds; and its numbers."""
    rows = [
        {"method": method, "seed": seed, "round": number, "loss": loss}
        for method in methods
        if has_shared_adapter(method)
        for seed in seeds
        for number, loss in public_curve(paper.seed(seed), method)
    ]
    table = pd.DataFrame(rows)
    by_round = table.groupby(["method", "round"], sort=False)["loss"].agg(["mean", "min", "max"]).reset_index()
    wide = by_round.pivot(index="round", columns="method", values="mean")[list(by_round["method"].unique())]
    written = [
        write_text(paper.figures / "figure3.csv", to_csv(wide.round(6).reset_index())),
        write_text(paper.figures / "figure3_seeds.csv", to_csv(table.round(6))),
    ]
    return [*written, *save_both(validation_curves(by_round), paper.figures / "figure3")]


def validation_curves(by_round: pd.DataFrame) -> Figure:
    """Chart of the columns method, round, mean, min, max: a line for each mean, a band from min to max."""
    parts = {str(name): part for name, part in by_round.groupby("method", sort=False)}
    series = {name: list(zip(part["round"], part["mean"], strict=True)) for name, part in parts.items()}
    figure = curves(series, "round", "public validation loss")
    for index, (name, part) in enumerate(parts.items()):
        band = figure.axes[0].fill_between(part["round"], part["min"], part["max"], alpha=0.12, linewidth=0)
        band.set_facecolor(colour_of(name, index))
    return figure


def write_client_gains(paper: PaperFolder, methods: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """Write the chart of each client's gain, mean over seeds."""
    found = {method: mean_gains(paper, method, seeds) for method in methods}
    return save_both(client_gains(found, "fall of the held-out loss, percent"), paper.figures / "client_gains")


def mean_gains(paper: PaperFolder, method: str, seeds: Sequence[int]) -> Mapping[str, float]:
    """client -> fall of its held-out loss, percent, mean over seeds."""
    of_seeds = [gains(paper.seed(seed), method) for seed in seeds]
    return {client: float(np.mean([one[client] for one in of_seeds])) for client in of_seeds[0]}


def write_faces(
    paper: PaperFolder, methods: Sequence[str], settings: EvaluationSettings, seed: int, sheets: int = 4
) -> list[Path]:
    """Write pictures of reference, truth and every method on held-out clips of one seed to `figures/qualitative`."""
    out = paper.figures / "qualitative"
    out.mkdir(parents=True, exist_ok=True)
    return write_qualitative(paper.seed(seed), out, settings, methods, sheets)


def save_both(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG; returns the files."""
    paths = [stem.with_suffix(f".{kind}") for kind in KINDS]
    for path in paths:
        save(figure, path)
    return paths
