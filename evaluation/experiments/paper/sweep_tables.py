"""Writes a table and a chart of each sweep, from the points' files. They are of one seed, and every table says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.files import write_text
from evaluation.catalogue import metric, name_of
from evaluation.experiments.paper.figures import save_both
from evaluation.experiments.paper.folders import PaperFolder
from evaluation.experiments.paper.sweep_points import FIGURES, SweepPoint
from evaluation.figures.charts import INK, MORE_COLOURS, colour_of, label_of, legend_above
from evaluation.measuring.significance import Values, holm, paired_permutation, standard_error
from evaluation.report.files import write_table
from evaluation.tables.columns import MISSING, to_csv
from training.privacy.digits import three_digits

ONE_SEED = (
    "One seed: ± is one standard error over its clients, and says nothing of other trainings. p is from sign flips of "
    "whole clients' differences to the frozen backbone, Holm's over the rows."
)


def write_participation(paper: PaperFolder, points: Sequence[SweepPoint]) -> list[Path]:
    """Write the clients' gain against the number of clients in a round."""
    ordered = sorted(points, key=lambda point: (point.method, point.setting["clients_per_round"]))
    table = sweep_table(ordered, {"Clients a round": lambda p: f"{p.setting['clients_per_round']:g} of {p.clients}"})
    drawn = numbers_of(ordered, "clients_per_round")
    return _write(paper, "participation", table, drawn, lines(drawn, "clients in a round"))


def write_dealt(paper: PaperFolder, points: Sequence[SweepPoint]) -> list[Path]:
    """Write the clients' gain against their heterogeneity: clips are dealt by a Dirichlet distribution whose small
    alphas make clients unlike."""
    ordered = sorted(points, key=lambda point: (point.method, point.setting["alpha"]))
    table = sweep_table(ordered, {"α": lambda point: f"{point.setting['alpha']:g}"})
    drawn = numbers_of(ordered, "alpha")
    return _write(paper, "noniid", table, drawn, lines(drawn, "α of the dealing (large: alike)", log=True))


def write_noise(paper: PaperFolder, points: Sequence[SweepPoint]) -> list[Path]:
    """Write privacy against utility: gain and metrics of generated clips, by noise multiplier and clipping norm."""
    ordered = sorted(points, key=lambda point: (point.setting["z"], point.setting["C"]))
    settings: Mapping[str, Callable[[SweepPoint], str]] = {
        "z": lambda point: f"{point.setting['z']:g}",
        "C": lambda point: f"{point.setting['C']:g}",
        "ε released": lambda point: three_digits(point.epsilon_release),
        "ε server": lambda point: three_digits(point.epsilon_server),
        "δ": lambda point: three_digits(point.delta),
    }
    table = sweep_table(ordered, settings, FIGURES)
    rows = [
        {
            "z": point.setting["z"],
            "C": point.setting["C"],
            "epsilon_release": point.epsilon_release,
            "delta": point.delta,
        }
        | {f"{name}{end}": value for name in ("gain", *FIGURES) for end, value in _mean_and_error(point, name).items()}
        for point in ordered
    ]
    drawn = pd.DataFrame(rows)
    return _write(paper, "privacy_utility", table, drawn, privacy_utility(drawn))


def sweep_table(
    points: Sequence[SweepPoint], settings: Mapping[str, Callable[[SweepPoint], str]], more: Sequence[str] = ()
) -> pd.DataFrame:
    """One row for each point: its settings, the gain in percent with its standard error and p, and `more` figures."""
    gains = [np.array(point.gains(), np.float64) for point in points]
    p_values = holm({str(place): paired_permutation(values, 0) for place, values in enumerate(gains)})
    return pd.DataFrame(
        [
            {"Method": name_of(point.method)}
            | {name: text(point) for name, text in settings.items()}
            | {
                "Gain (%)": f"{values.mean():.2f} ± {standard_error(values):.2f}",
                "Clients that gain": f"{int((values > 0).sum())} of {len(values)}",
                "p (Holm)": f"{p_values[str(place)]:.2g}",
                "Bytes up": point.bytes_up,
            }
            | {metric(name).axis: _cell(point, name) for name in more}
            for place, (point, values) in enumerate(zip(points, gains, strict=True))
        ]
    )


def numbers_of(points: Sequence[SweepPoint], varied: str) -> pd.DataFrame:
    """The numbers of a chart: columns method, the varied setting, gain and the gain's standard error."""
    return pd.DataFrame(
        [
            {"method": point.method, varied: point.setting[varied], **_mean_and_error(point, "gain", "gain")}
            for point in points
        ]
    )


def lines(drawn: pd.DataFrame, x_label: str, log: bool = False) -> Figure:
    """Chart of the gain against the varied setting, a line for each method, with standard errors over clients."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    varied = drawn.columns[1]
    for index, (name, part) in enumerate(drawn.groupby("method", sort=False)):
        colour = colour_of(str(name), index)
        axes.errorbar(
            part[varied], part["gain"], part["gain_error"], color=colour, marker="o", markersize=4, capsize=3,
            label=label_of(name_of(str(name))),
        )  # fmt: skip
    if log:
        axes.set_xscale("log")
    axes.set_xticks(sorted(drawn[varied].unique()), [f"{x:g}" for x in sorted(drawn[varied].unique())])
    axes.minorticks_off()
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(label_of(x_label))
    axes.set_ylabel("fall of the held-out loss, percent", fontsize=9)
    _plain(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure


def privacy_utility(drawn: pd.DataFrame) -> Figure:
    """Chart with a panel for each figure against z and its ε, a line for each clipping norm.

    The values of z are spaced evenly, because small ones would coincide.
    """
    names = [name for name in ("gain", "identity", "opening_error", "lip_correlation") if name in drawn]
    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    panels = list(figure.subplots(2, 2).flat)
    noises = sorted(drawn["z"].unique())
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        for number, (norm, part) in enumerate(drawn.groupby("C")):
            x = [noises.index(z) + 0.06 * (number - (drawn["C"].nunique() - 1) / 2) for z in part["z"]]
            colour = MORE_COLOURS[number % len(MORE_COLOURS)]
            axes.errorbar(
                x, part[name], part[f"{name}_error"], color=colour, marker="o", markersize=4, capsize=3,
                label=f"C = {norm:g}",
            )  # fmt: skip
        of_noise = drawn.groupby("z")["epsilon_release"].first()
        deltas = drawn.groupby("z")["delta"].first()
        ticks = [f"z = {z:g}\nε = {three_digits(of_noise.get(z))}, δ = {deltas[z]:.0e}" for z in noises]
        axes.set_xticks(range(len(noises)), ticks, fontsize=8)
        axes.set_ylabel("fall of the held-out loss, %" if name == "gain" else metric(name).axis, fontsize=9)
        _plain(axes)
    legend_above(figure, columns=8)
    return figure


def _write(paper: PaperFolder, name: str, table: pd.DataFrame, drawn: pd.DataFrame, figure: Figure) -> list[Path]:
    return [
        *write_table(paper.tables / name, table, ONE_SEED),
        write_text(paper.figures / f"{name}.csv", to_csv(drawn.round(6))),
        *save_both(figure, paper.figures / name),
    ]


def _values(point: SweepPoint, name: str) -> Values:
    values = point.gains() if name == "gain" else list(point.figures.get(name, {}).values())
    return np.array(values, np.float64)


def _mean_and_error(point: SweepPoint, name: str, prefix: str = "") -> dict[str, float]:
    """Mean and standard error over clients, by the endings of their column names; empty where nothing was measured."""
    values = _values(point, name)
    return {prefix: float(values.mean()), f"{prefix}_error": standard_error(values)} if len(values) else {}


def _cell(point: SweepPoint, name: str) -> str:
    values = _values(point, name)
    return f"{values.mean():.3g} ± {standard_error(values):.2g}" if len(values) else MISSING


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(labelsize=8)
