"""Points of the paper's sweeps: where they lie, and what a single federation of the first seed came to.

Everything but what a point varies is as in the main tables, whose run of that seed is the sweep's own point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.experiments.paper.folders import PaperFolder
from evaluation.experiments.points import FEDERATION, FINAL, Row, read_rows
from evaluation.experiments.releases import BEFORE, LOSS, rows_of

FIGURES = ("identity", "mouth_psnr", "opening_error", "lip_correlation")


@dataclass(frozen=True)
class SweepPoint:
    """`setting` names what the sweep varied; `figures` has, by metric, each client's mean; `before` the losses of the
    same clients under the frozen backbone."""

    method: str
    setting: Mapping[str, float]
    clients: int
    figures: Mapping[str, Mapping[str, float]]
    before: Mapping[str, float]
    bytes_up: int
    epsilon_release: float | None
    epsilon_server: float | None
    delta: float | None

    def gains(self) -> list[float]:
        """Fall of each client's loss to the backbone's, percent, in the order of their names."""
        after = self.figures[LOSS]
        return [100 * (1 - after[client] / self.before[client]) for client in sorted(after) if client in self.before]


def sweep_point(method: str, setting: Mapping[str, float], rows: Iterable[Row]) -> SweepPoint:
    """The point that a released federation's rows describe."""
    facts: dict[str, Any] = {}
    figures: dict[str, dict[str, float]] = {}
    before: dict[str, float] = {}
    for row in rows:
        if row["role"] == FEDERATION:
            facts[row["metric"]] = row["value"]
        elif row["stage"] == BEFORE:
            before[row["person"]] = row["value"]
        elif row["stage"] == FINAL and row["metric"] in (LOSS, *FIGURES):
            figures.setdefault(row["metric"], {})[row["person"]] = row["value"]
    return SweepPoint(method=method, setting=dict(setting), figures=figures, before=before, **facts)


def read_sweep(paper: PaperFolder, sweep: str) -> list[SweepPoint]:
    """The points of a sweep, from their files: a folder for each stage of `dvc.yaml`, a file for each point."""
    found = []
    for path in sorted(paper.sweep(sweep).glob("*/*.jsonl")):
        rows = read_rows(path)
        found.append(sweep_point(rows[0]["method"], rows[0]["setting"], rows))
    return found


def main_point(paper: PaperFolder, method: str, seed: int, setting: Mapping[str, float]) -> SweepPoint:
    """The point that the main tables have anyway."""
    return sweep_point(method, setting, rows_of(paper.seed(seed), method))
