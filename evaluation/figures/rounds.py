"""Draws the rounds of a federation as one picture of four charts, for the asset's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.figures.charts import MORE_COLOURS, label_of

Lines = Sequence[tuple[str, Sequence[float | None]]]


def round_curves(rounds: Sequence[dict[str, Any]]) -> Figure:
    """Charts over the lines of `rounds.jsonl`: public validation loss; clients' training losses by term, which only a
    simulation knows; shares of clients and their mean score; epsilon so far.

    Crosses are rounds that did not change the adapter.
    """
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    (public, losses), (shares, epsilon) = figure.subplots(2, 2)
    numbers = [line["round"] for line in rounds]
    _lines(public, numbers, [("public validation loss", [line["public_validation_loss"] for line in rounds])])
    failed = [line for line in rounds if line["outcome"] != "applied"]
    if failed:
        at = [line["round"] for line in failed], [line["public_validation_loss"] for line in failed]
        public.scatter(*at, marker="x", color=MORE_COLOURS[1], zorder=3, label="not applied")
        public.legend(frameon=False, fontsize=8)
    terms = sorted({name for line in rounds for name in line["simulation"].get("losses", {})} - {"total"})
    by_term = [(name, [line["simulation"].get("losses", {}).get(name) for line in rounds]) for name in terms]
    _lines(losses, numbers, by_term, "clients' training losses")
    if by_term:
        losses.set_yscale("log")
    parts = [("returned / sampled", [line["survivors"] / max(1, len(line["clients"])) for line in rounds])]
    parts += [("within the clipping norm", [line["within_clip"] for line in rounds])]
    parts += [("mean score", [line["score_mean"] for line in rounds])]
    _lines(shares, numbers, parts, "shares, noise included")
    epsilon_so_far = [
        ("released model", [line["epsilon_release"] for line in rounds]),
        ("server", [line["epsilon_server"] for line in rounds]),
    ]
    _lines(epsilon, numbers, epsilon_so_far, "epsilon so far")
    if all(line["epsilon_release"] is None for line in rounds):
        epsilon.text(0.5, 0.5, "no noise, no epsilon", ha="center", transform=epsilon.transAxes, color="0.4")
    return figure


def _lines(axes: Axes, numbers: Sequence[int], lines: Lines, title: str = "") -> None:
    for index, (name, values) in enumerate(lines):
        points = [(number, value) for number, value in zip(numbers, values, strict=True) if value is not None]
        x, y = [point[0] for point in points], [point[1] for point in points]
        colour = ("#0072B2", "#E69F00", "#009E73", *MORE_COLOURS)[index % 6]
        axes.plot(x, y, color=colour, marker="o", markersize=3, linewidth=1.8, label=label_of(name))
    axes.set_title(label_of(title or lines[0][0]), fontsize=10, loc="left")
    axes.grid(axis="y", alpha=0.2)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)
