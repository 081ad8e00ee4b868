"""Tables and plots of sweeps from points that were made up."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evaluation.experiments.paper import sweep_tables
from evaluation.experiments.paper.folders import PARTICIPATION, PaperFolder
from evaluation.experiments.paper.sweep_points import SweepPoint, read_sweep
from evaluation.experiments.points import write_rows

CLIENTS = "abcdefgh"


def point(method: str, fall: float, epsilon: float | None = None, **setting: float) -> SweepPoint:
    """Every client's loss falls by `fall` percent, a little more from one to the next."""
    before = dict.fromkeys(CLIENTS, 0.5)
    after = {client: 0.5 * (1 - (fall + 0.1 * number) / 100) for number, client in enumerate(CLIENTS)}
    figures = {"validation_loss": after, "identity": dict.fromkeys(CLIENTS, 0.9)}
    return SweepPoint(method, setting, len(CLIENTS), figures, before, 4000, epsilon, epsilon, 0.01)


def test_points_come_back_from_their_files(tmp_path: Path) -> None:
    paper, points = PaperFolder(tmp_path), [point("fedavg", fall, clients_per_round=n) for fall, n in ((3, 4), (5, 6))]
    for number, one in enumerate(points):
        rows = [
            {"role": "federation", "stage": "final", "person": "", "metric": name, "value": getattr(one, name)}
            for name in ("clients", "bytes_up", "epsilon_release", "epsilon_server", "delta")
        ]
        stages = [("backbone", "validation_loss", one.before), *(("final", m, some) for m, some in one.figures.items())]
        rows += [
            {"role": "client", "stage": stage, "person": client, "metric": metric, "value": value}
            for stage, metric, values in stages
            for client, value in values.items()
        ]
        head = {"method": one.method, "setting": one.setting}
        write_rows(paper.sweep(PARTICIPATION) / "fedavg" / f"{number}.jsonl", head, rows)
    # What a stage left before each point had a file is not read for one.
    (paper.sweep(PARTICIPATION) / "fedavg.json").write_text("[]")
    assert read_sweep(paper, PARTICIPATION) == points
    assert points[0].gains() == pytest.approx([3 + 0.1 * number for number in range(8)])


def test_participation_has_a_row_a_point_and_everybody_beside(tmp_path: Path) -> None:
    paper = PaperFolder(tmp_path)
    points = [point("fedavg", fall, clients_per_round=count) for fall, count in ((5, 8), (0.0, 4))]
    files = sweep_tables.write_participation(paper, points)
    table = pd.read_csv(paper.tables / "participation.csv")
    assert table["Clients a round"].tolist() == ["4 of 8", "8 of 8"]
    assert table["Gain (%)"].tolist()[1].startswith("5.35 ± ")
    assert table["p (Holm)"].tolist() == pytest.approx([2 / 2**7, 2 * 2 / 2**8], abs=1e-3)
    assert "One seed" in (paper.tables / "participation.md").read_text()
    assert {path.suffix for path in files} == {".csv", ".md", ".tex", ".png", ".svg"}


def test_noise_says_both_epsilons_and_none_where_none_holds(tmp_path: Path) -> None:
    paper = PaperFolder(tmp_path)
    points = [point("privfedtalk", 5, None, z=0.0, C=1.5), point("privfedtalk", 1, 7.25, z=0.5, C=1.5)]
    sweep_tables.write_noise(paper, points)
    table = pd.read_csv(paper.tables / "privacy_utility.csv")
    assert table["ε released"].tolist() == ["none", "7.25"]
    assert set(table["identity"]) == {"0.9 ± 0"} and set(table["lip correlation"]) == {"–"}
    drawn = pd.read_csv(paper.figures / "privacy_utility.csv")
    assert drawn["gain"].tolist() == pytest.approx([5.35, 1.35])
    assert (paper.figures / "privacy_utility.svg").stat().st_size > 1000


def test_unlike_clients_are_ordered_by_alpha(tmp_path: Path) -> None:
    paper = PaperFolder(tmp_path)
    sweep_tables.write_dealt(paper, [point(m, 2, alpha=a) for m in ("fedavg", "privfedtalk") for a in (100.0, 0.1)])
    assert pd.read_csv(paper.tables / "noniid.csv")["α"].tolist() == [0.1, 100.0, 0.1, 100.0]
