from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.figures.charts import INK, client_gains, contact_sheet, curves, labelled_grid, save, svg

SERIES = {"privfedtalk": [(0, 0.12), (1, 0.11), (2, 0.105)], "fedavg": [(0, 0.12), (1, 0.109), (2, 0.104)]}


def test_svg_takes_the_pages_colour_and_loads_nothing() -> None:
    drawing = svg(curves(SERIES, "round", "loss", baseline=("backbone", 0.12)))
    assert drawing.startswith("<svg") and drawing.rstrip().endswith("</svg>")
    assert "currentColor" in drawing and INK not in drawing
    opening_tag = drawing[: drawing.index(">")]
    assert "viewBox" in opening_tag and "width=" not in opening_tag
    assert "<image" not in drawing and "<metadata" not in drawing


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    gains = {"fedavg": {"c0000": 0.5, "c0001": -0.1}, "privfedtalk": {"c0000": 0.4}}
    assert svg(client_gains(gains, "dB")) == svg(client_gains(gains, "dB"))
    for name in ("one.png", "two.png", "one.svg", "two.svg"):
        save(curves(SERIES, "round", "loss", log=True), tmp_path / name)
    for ending in ("png", "svg"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()
    assert Image.open(tmp_path / "one.png").size[0] > 600


def test_contact_sheet_shows_first_and_last_moment() -> None:
    frames = np.zeros((9, 16, 16, 3), np.uint8)
    frames[0], frames[-1] = (255, 0, 0), (0, 0, 255)
    sheet = contact_sheet([("truth", frames), ("a_still", frames[:1])], columns=3, tile=20)
    assert sheet.dtype == np.uint8 and sheet.shape[0] == 43
    assert tuple(sheet[10, -60]) == (255, 0, 0)
    assert tuple(sheet[10, -10]) == (0, 0, 255)


def test_grid_keeps_panels_in_step_and_sizes_even() -> None:
    rising = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 3), 50, np.uint8)
    grid = labelled_grid([("truth", rising), ("generated", rising[::-1])], columns=2, tile=33)
    assert len(grid) == 5 and grid.shape[1] % 2 == 0 and grid.shape[2] % 2 == 0
    for moment in range(5):
        assert abs(int(grid[moment, 40, 16, 0]) - 50 * moment) <= 1
        assert abs(int(grid[moment, 40, 52, 0]) - 50 * (4 - moment)) <= 1


def test_rounds_are_whole_numbers() -> None:
    axes = curves({"fedavg": [(number, 1 / number) for number in range(1, 4)]}, "round", "loss").axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
