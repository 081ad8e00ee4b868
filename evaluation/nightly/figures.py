"""Charts of every metric over the nights: a small panel for each metric, a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from evaluation.catalogue import metric, name_of
from evaluation.figures.charts import colour_of, label_of, legend_above
from evaluation.nightly.nights import Night, history

COLUMNS = 3


def nights_plot(nights: Sequence[Night]) -> Figure:
    """Chart of the metrics' means over the nights.

    A dotted line marks the first night with other clips or settings, a ring the first night of a method's new model.
    """
    by_metric = history(nights)
    rows = -(-len(by_metric) // COLUMNS)
    figure = Figure(figsize=(3.5 * COLUMNS, 0.5 + 2.1 * rows), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    first_nights = _first_nights_of_models(nights)
    for axes, (key, by_method) in zip(panels, by_metric.items(), strict=False):
        for index, (method, points) in enumerate(by_method.items()):
            days, values = [_day(night) for night, _ in points], [value for _, value in points]
            colour = colour_of(method, index)
            axes.plot(
                days, values, color=colour, marker="o", markersize=3, linewidth=1.6, label=label_of(name_of(method))
            )
            new = [(_day(night), value) for night, value in points if (night, method) in first_nights]
            if new:
                axes.scatter(*zip(*new, strict=True), s=42, facecolors="none", edgecolors=colour, linewidths=1.1)
        _style(axes, metric(key).in_sentence + metric(key).arrow)
        for before, after in pairwise(nights):
            if (before.panel, before.settings) != (after.panel, after.settings):
                axes.axvline(_day(after.night), color="0.4", linestyle=":", linewidth=1)
    for axes in panels[len(by_metric) :]:
        axes.set_axis_off()
    legend_above(figure, columns=6)
    return figure


def _first_nights_of_models(nights: Sequence[Night]) -> set[tuple[str, str]]:
    """(night, method) wherever the method's model differs from the night before; none for the first night."""
    return {
        (after.night, method)
        for before, after in pairwise(nights)
        for method, version in after.models.items()
        if before.models.get(method) != version
    }


def _style(axes: Axes, title: str) -> None:
    axes.set_title(label_of(title), fontsize=10, loc="left")
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _day(night: str) -> datetime:
    return datetime.fromisoformat(night)
