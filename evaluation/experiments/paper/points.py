"""Points of a sweep: what single federations of the first seed came to for their clients, one small JSON file a stage.

Everything but what a point names is as in the main tables, whose run of that seed is the sweep's own point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from common.files import write_text
from common.folders import RunFolder
from evaluation.catalogue import BACKBONE
from evaluation.experiments.paper.folders import PaperFolder
from evaluation.results.run_files import read_losses, read_privacy, traffic
from preparation.clients.roles import load_clients, of_role

PARTICIPATION, DEALT, NOISE = "participation", "dealt", "noise"
"""The sweeps' folders."""
NOISY = "privfedtalk"
"""The method whose privacy is priced."""
LOSS = "validation_loss"
FIGURES = ("identity", "mouth_psnr", "opening_error", "lip_correlation")


@dataclass(frozen=True)
class Point:
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


def write_points(path: Path, points: Sequence[Point]) -> Path:
    return write_text(path, json.dumps([asdict(point) for point in points], indent=1) + "\n")


def read_points(paths: Sequence[Path]) -> list[Point]:
    return [Point(**line) for path in sorted(paths) for line in json.loads(path.read_text(encoding="utf-8"))]


def main_point(paper: PaperFolder, method: str, seed: int, setting: Mapping[str, float]) -> Point:
    """The point that the main tables have anyway."""
    return point_of(paper.seed(seed), method, setting, read_losses(paper.seed(seed), BACKBONE))


def point_of(run: RunFolder, method: str, setting: Mapping[str, float], before: Mapping[str, float]) -> Point:
    """What a run's files say of a method that was trained and measured in it."""
    report, sent = read_privacy(run, method), traffic(run, method)
    figures: dict[str, Mapping[str, float]] = {LOSS: read_losses(run, method)}
    measured = run.evaluation(method) / "metrics.parquet"
    if measured.exists():
        rows = pd.read_parquet(measured)
        rows = rows[(rows["role"] == "client") & rows["metric"].isin(FIGURES)]
        means = rows.groupby(["metric", "client"])["value"].mean()
        figures |= {str(metric): means[metric].to_dict() for metric in dict.fromkeys(means.index.get_level_values(0))}
    return Point(
        method=method,
        setting=dict(setting),
        clients=len(of_role(load_clients(run.clients_table), "client")),
        figures=figures,
        before=dict(before),
        bytes_up=sent["bytes_up"],
        epsilon_release=report["epsilon_release"],
        epsilon_server=report["epsilon_server"],
        delta=report["delta"],
    )
