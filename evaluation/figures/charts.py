"""Draws the figures of a run: curves, per-client gains and contact sheets, as SVG for the page and PNG for files.

Charts are drawn with matplotlib's objects, not pyplot's global state. Because the page may be light or dark, text and
axes take the page's own colour: see `svg`.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from common.files import replacing
from common.text.foreign import printable
from evaluation.catalogue import name_of
from evaluation.metrics.arrays import Frames

# Okabe and Ito's colours, which colour-blind readers can distinguish on light and on dark grounds.
COLOURS = {
    "privfedtalk": "#0072B2",
    "fedavg": "#E69F00",
    "fedprox": "#B8A800",
    "scaffold": "#8A2BE2",
    "fedadam": "#E4007C",
    "centralized": "#56B4E9",
    "local": "#D55E00",
    "backbone": "#009E73",
    "copy_reference": "#999999",
    "vae_ceiling": "#CC79A7",
    "noise": "#8C6D31",
}
MORE_COLOURS = ("#56B4E9", "#D55E00", "#B8A800")
INK = "#010203"
"""A placeholder in charts for the page's text colour; no method has this colour."""


LONGEST_LABEL = 40
"""The most letters of a name in a picture; longer names are cut, because they would not fit."""


def label_of(text: str) -> str:
    """The text so that matplotlib draws it as it is: no mathematics between dollar signs, one line, a bounded length.

    A leading underscore would hide the entry from a legend, so a character of no width is put before it.
    """
    shown = printable(text, LONGEST_LABEL).replace("$", r"\$")
    return f"\u2060{shown}" if shown.startswith("_") else shown


def colour_of(name: str, index: int = 0) -> str:
    return COLOURS.get(name, MORE_COLOURS[index % len(MORE_COLOURS)])


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    baseline: tuple[str, float] | None = None,
    log: bool = False,
) -> Figure:
    """Chart of lines over rounds or steps: name -> (x, y) points; `baseline` is a name and its level, drawn dashed."""
    figure, axes = _empty(x_label, y_label)
    for index, (name, points) in enumerate(series.items()):
        x, y = np.array(points, float).reshape(-1, 2).T
        axes.plot(
            x, y, color=colour_of(name, index), linewidth=2, marker="o", markersize=3.5, label=label_of(name_of(name))
        )
    if baseline is not None:
        name, level = baseline
        axes.axhline(level, color=colour_of(name), linewidth=1.6, linestyle=(0, (4, 3)), label=label_of(name_of(name)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log:
        axes.set_yscale("log")
    if len(series) + (baseline is not None) > 1:
        _legend(axes)
    return figure


def client_gains(gains: Mapping[str, Mapping[str, float]], y_label: str, named: bool = True) -> Figure:
    """Bar chart of each client's gain under each method (method -> client -> gain): who gains and who loses.

    Without names the clients are ordered by their gain under the first method.
    """
    figure, axes = _empty("", y_label)
    clients = sorted({client for by_client in gains.values() for client in by_client})
    if not named:
        first = next(iter(gains.values()), {})
        clients.sort(key=lambda client: -first.get(client, 0.0))
    width = 0.8 / max(1, len(gains))
    for index, (method, by_client) in enumerate(gains.items()):
        x = np.arange(len(clients)) + (index - (len(gains) - 1) / 2) * width
        heights = [by_client.get(client, float("nan")) for client in clients]
        axes.bar(x, heights, width * 0.92, color=colour_of(method, index), label=label_of(name_of(method)))
    axes.axhline(0, color=INK, linewidth=0.8)
    if named:
        axes.set_xticks(range(len(clients)), [label_of(client) for client in clients])
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(clients)} clients", color=INK, fontsize=10)
    if len(gains) > 1:
        _legend(axes)
    return figure


def legend_above(figure: Figure, columns: int) -> None:
    """Put one legend for all panels of a figure above them: every name once, in the order of first appearance."""
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = max(1, min(columns, len(handles)))
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=columns, frameon=False, fontsize=9
    )


def svg(figure: Figure) -> str:
    """The figure as an inline `<svg>` that draws `INK` in `currentColor`; equal figures give equal text."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "privfedtalk", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Width and height in points would conflict with the page's layout; the view box keeps the proportions.
    return re.sub(r' (?:width|height)="[^"]*pt"', "", text)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or SVG, by the path's ending, on white."""
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "privfedtalk"}), replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], facecolor="white", dpi=160, metadata=metadata)


def contact_sheet(rows: Sequence[tuple[str, Frames]], columns: int = 8, tile: int = 112) -> Frames:
    """Picture [H', W', 3] of rows (label, frames [T, H, W, 3]) at `columns` moments spread over the clip."""
    font, gap = _font(18), 3
    labels = [printable(name_of(label), LONGEST_LABEL) for label, _ in rows]
    label_width = max(176, *(math.ceil(font.getlength(label)) + 16 for label in labels))
    width = label_width + columns * (tile + gap)
    sheet = Image.new("RGB", (width, len(rows) * (tile + gap) - gap), (24, 26, 30))
    draw = ImageDraw.Draw(sheet)
    for index, (label, (_, frames)) in enumerate(zip(labels, rows, strict=True)):
        top = index * (tile + gap)
        draw.text((8, top + tile / 2), label, fill=(226, 228, 232), font=font, anchor="lm")
        for column, moment in enumerate(np.linspace(0, len(frames) - 1, columns).round().astype(int)):
            picture = Image.fromarray(frames[moment]).resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(picture, (label_width + column * (tile + gap), top))
    return np.asarray(sheet)


def labelled_grid(panels: Sequence[tuple[str, Frames]], columns: int = 3, tile: int = 192) -> Frames:
    """Clips side by side, each under its name, as one clip: panels (label, [T, H, W, 3]) -> [T, H', W', 3].

    One video keeps all faces in step with the sound, which separate players cannot guarantee.
    """
    assert len({len(frames) for _, frames in panels}) == 1, "panels differ in length"
    header, gap = 22, 4
    rows = -(-len(panels) // columns)
    columns = min(columns, len(panels))
    width = columns * (tile + gap) - gap
    height = rows * (tile + header + gap) - gap
    canvas = Image.new("RGB", (width + width % 2, height + height % 2), (24, 26, 30))
    draw, font = ImageDraw.Draw(canvas), _font(13)
    corners = [
        ((index % columns) * (tile + gap), (index // columns) * (tile + header + gap)) for index in range(len(panels))
    ]
    for (left, top), (label, _) in zip(corners, panels, strict=True):
        shown = printable(name_of(label), LONGEST_LABEL)
        draw.text((left + 6, top + header / 2), shown, fill=(226, 228, 232), font=font, anchor="lm")
    base = np.asarray(canvas)
    grid = np.repeat(base[None], len(panels[0][1]), axis=0)
    for (left, top), (_, frames) in zip(corners, panels, strict=True):
        for index, frame in enumerate(frames):
            picture = Image.fromarray(frame).resize((tile, tile), Image.Resampling.LANCZOS)
            grid[index, top + header : top + header + tile, left : left + tile] = picture
    return grid


def _empty(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.1), layout="constrained")  # small, so that letters are legible on a phone
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
        axes.spines[side].set_alpha(0.4)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(label_of(x_label), color=INK, fontsize=10)
    axes.set_ylabel(label_of(y_label), color=INK, fontsize=10)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that pictures are the same on every machine."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
