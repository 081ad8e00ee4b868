"""Draws the client report as charts: how large the clients are, and how far each is from all clients together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluation.figures.charts import INK, MORE_COLOURS, label_of, save
from preparation.clients.report import ClientReport

NAMED = 24
"""With more clients their names would not be legible and are left out."""
WRITTEN = 80
"""With more letters in all, names are slanted."""
CHANCE = (0, (4, 3))
"""Dash pattern of the values that clients of these sizes have when clips are dealt at random."""
SPLIT_COLOURS = {"train": "#0072B2", "validation": "#E69F00", "test": "#009E73"}


def client_sizes(report: ClientReport, named: bool = True) -> Figure:
    """Chart of each client's clips, stacked by split, the largest client first."""
    figure, axes = _chart("clips")
    rows = sorted(report.clients, key=lambda row: (-row.clips, row.client))
    base = np.zeros(len(rows))
    for split, colour in SPLIT_COLOURS.items():
        heights = np.array([getattr(row, split) for row in rows])
        axes.bar(range(len(rows)), heights, 0.85, bottom=base, color=colour, label=split)
        base += heights
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _name(axes, [row.client for row in rows], named)
    _legend(axes)
    return figure


def client_distances(report: ClientReport, named: bool = True) -> Figure:
    """Chart of each client's total variation distance to all clients, in looks and pose, the farthest first; dashed:
    the distance by chance alone."""
    figure, axes = _chart("total variation to all clients")
    rows = [row for row in report.clients if row.cluster_tv is not None]
    rows.sort(key=lambda row: (-(row.cluster_tv or 0.0), row.client))
    kinds = (("looks and pose", "cluster_tv", report.cluster_tv_if_alike), ("pose", "pose_tv", report.pose_tv_if_alike))
    for (label, field, chance), colour in zip(kinds, MORE_COLOURS, strict=False):
        axes.plot(range(len(rows)), [getattr(row, field) for row in rows], "o", color=colour, markersize=5, label=label)
        axes.axhline(chance, color=colour, linewidth=1.4, linestyle=CHANCE)
    axes.set_ylim(0, 1)
    _name(axes, [row.client for row in rows], named)
    _legend(axes, Line2D([], [], color=INK, alpha=0.6, linewidth=1.4, linestyle=CHANCE, label="by chance"))
    return figure


def save_client_figures(report: ClientReport, folder: Path) -> list[Path]:
    """Write both charts as PNG into a folder; returns the files."""
    paths = [folder / "client_sizes.png", folder / "client_distances.png"]
    for figure, path in zip((client_sizes(report), client_distances(report)), paths, strict=True):
        save(figure, path)
    return paths


def _chart(y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.1), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel(y_label, color=INK, fontsize=10)
    return figure, axes


def _name(axes: Axes, clients: Sequence[str], named: bool) -> None:
    if not named:
        axes.set_xticks([])
    if named and len(clients) <= NAMED:
        labels = [label_of(client) for client in clients]
        crowded = len(clients) > 10 or sum(map(len, labels)) > WRITTEN
        axes.set_xticks(range(len(clients)), labels, rotation=45 if crowded else 0)
    else:
        axes.set_xlabel(f"{len(clients)} clients", color=INK, fontsize=10)


def _legend(axes: Axes, *more: Line2D) -> None:
    handles = [*axes.get_legend_handles_labels()[0], *more]
    axes.legend(
        handles=handles,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        ncols=3,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
