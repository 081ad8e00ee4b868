"""Draws the study's curves in one picture: gain over the frozen backbone, with the interval over people shaded."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.experiments.study import design as study
from evaluation.experiments.study.summary import Gain, Results, gains
from evaluation.figures.charts import INK, colour_of, label_of, legend_above

PANELS = (study.SHIFT, study.ROUNDS, study.CLIPS, study.CLIENTS)
STYLES = {"local, longer": "--", "fedavg, personalised": "--", "privfedtalk, z = 0.02": ":"}
"""Line styles of curves that take another method's colour: dashed with more steps, dotted with noise."""


def curves(results: Results) -> Figure | None:
    """Chart with a panel for each experiment of which at least two conditions were run; None where there is none."""
    found = [(experiment, gains(results, experiment)) for experiment in PANELS]
    drawn = [(experiment, some) for experiment, some in found if len({gain.x for gain in some}) > 1]
    if not drawn:
        return None
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(4.8 * columns, 0.5 + 2.9 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (experiment, some) in zip(places, drawn, strict=False):
        _panel(axes, some)
        whose = "strangers' loss" if experiment.role == "unseen" else "clients' loss"
        axes.set_xlabel(label_of(experiment.varies), fontsize=9, color=INK)
        axes.set_ylabel(f"{whose} to backbone, %", fontsize=9, color=INK)
    for axes in places[len(drawn) :]:
        axes.set_axis_off()
    legend_above(figure, columns=3)
    return figure


def _panel(axes: Axes, found: Sequence[Gain]) -> None:
    for name in dict.fromkeys(gain.curve for gain in found):
        points = sorted((gain for gain in found if gain.curve == name), key=lambda gain: float(gain.x))
        x = [float(gain.x) for gain in points]
        colour, line = colour_of(name.partition(",")[0]), STYLES.get(name, "-")
        axes.plot(
            x, [gain.mean for gain in points], line, color=colour, marker="o", markersize=3.5, label=label_of(name)
        )
        axes.fill_between(x, [g.low for g in points], [g.high for g in points], color=colour, alpha=0.12, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(labelsize=8)
