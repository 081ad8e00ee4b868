"""Points of the paper's sweeps, read from their files: the figures of single federations of the first seed.

Everything but what a point varies is as in the main tables, whose run of that seed is itself a point of the sweep.
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
    """The figures of one federation of a sweep.

    `setting` has the values of the settings that the sweep varies; `figures`, by metric, each client's mean; `before`
    the same clients' losses under the frozen backbone.
    """

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
        """The fall of each client's loss against the backbone's, percent, in the order of the clients' names."""
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
    """The points of a sweep, from their files: one folder for each stage of `dvc.yaml`, one file for each point."""
    found = []
    for path in sorted(paper.sweep(sweep).glob("*/*.jsonl")):
        rows = read_rows(path)
        found.append(sweep_point(rows[0]["method"], rows[0]["setting"], rows))
    return found


def main_point(paper: PaperFolder, method: str, seed: int, setting: Mapping[str, float]) -> SweepPoint:
    """The point of the main tables' own run of that seed."""
    return sweep_point(method, setting, rows_of(paper.seed(seed), method))
