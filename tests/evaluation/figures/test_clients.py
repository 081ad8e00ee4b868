from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from evaluation.figures.charts import svg
from evaluation.figures.clients import client_distances, client_sizes, save_client_figures
from preparation.clients.report import ClientReport, ClientRow


def report(count: int) -> ClientReport:
    rows = [ClientRow(f"c{n}", n + 3, n + 1, 1, 1, 2.0 * n, 1, False, n, 0.5, 0.3, 0.8) for n in range(count)]
    rows.append(ClientRow("cropless", 1, 1, 0, 0, 2.0, 1, False, 0, None, None, None))
    return ClientReport(rows, 40, 0.2, 1.5, 0.5, 0.2, 0.3, 0.1, 0.8)


@pytest.mark.parametrize("count", [3, 60])
def test_figures_show_every_client(count: int, tmp_path: Path) -> None:
    sizes, distances = client_sizes(report(count)), client_distances(report(count))
    bars = [bar for bar in sizes.axes[0].patches if isinstance(bar, Rectangle)]
    assert len(bars) == len(sizes.axes[0].patches) == 3 * (count + 1)
    tops = [sum(bar.get_height() for bar in bars[place :: count + 1]) for place in range(count + 1)]
    assert tops == sorted((row.clips for row in report(count).clients), reverse=True)
    assert all(float(tick).is_integer() for tick in sizes.axes[0].get_yticks())
    legend = distances.axes[0].get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["looks and pose", "pose", "by chance"]
    assert [np.size(line.get_xdata()) for line in distances.axes[0].lines] == [count, 2, count, 2]
    assert "currentColor" in svg(sizes) and "currentColor" in svg(distances)
    for path in save_client_figures(report(count), tmp_path):
        assert Image.open(path).size[0] > 600


def test_names_are_written_while_they_are_legible() -> None:
    assert client_sizes(report(3)).axes[0].get_xticklabels()[0].get_text() == "c2"
    assert client_sizes(report(60)).axes[0].get_xlabel() == "61 clients"
