"""The stages of dvc.yaml at the smallest size, through Dagster: every file is there, and again the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from pipelines import runner
from pipelines.configuration.reader import merge
from pipelines.paper import stages as paper_stages
from pipelines.paper import sweeps as paper_sweeps
from pipelines.paper.outputs import OUTPUTS
from pipelines.paper.settings import PaperSettings, read_paper
from pipelines.paper.stages import STAGES

METHODS = ("privfedtalk", "fedavg", "local", "tdc_only")
SMALLER = {
    "studio": {"public_speakers": 4, "public_clips": 1, "clients": 4, "client_clips": 4, "unseen": 1, "seconds": 1.2},
    "training": {
        "vae": {"steps": 5},
        "pretraining": {"steps": 4, "speech_steps": 2, "validate_every": 2},
        "federation": {"rounds": 2, "local_steps": 1},
        "privacy": {"n_max": 2},
    },
    "evaluation": {"clips_per_client": 1, "tracked_clips_per_client": 0},
}


def smallest(data: Path) -> PaperSettings:
    paper = read_paper()
    sweeps = {"clients_per_round": (3,), "alphas": (100.0,), "noise_multipliers": (0.5,), "clip_norms": (1.5,)}
    update = {
        "data": data,
        "seeds": (0, 1),
        "methods": METHODS,
        "own": {method: paper.own[method] for method in METHODS},
        "run": merge(paper.run, SMALLER),
        "sweeps": paper.sweeps.model_copy(update=sweeps),
    }
    return paper.model_copy(update=update)


def do(paper: PaperSettings, stage: str, value: str = "") -> None:
    STAGES[stage](paper, value)


def everything(paper: PaperSettings) -> dict[str, bytes]:
    """All stages in DVC's order; the CSVs by name."""
    do(paper, "corpus")
    do(paper, "people")
    for seed in paper.seeds:
        do(paper, "backbone", str(seed))
    for method in paper.methods:
        do(paper, "federation", method)
        do(paper, "evaluation", method)
    do(paper, "references")
    for method in paper.sweeps.methods:
        do(paper, "participation", method)
    do(paper, "dealt", "100.0")
    do(paper, "noise", "0.5")
    for name in OUTPUTS:
        do(paper, "write", name)
    return {path.name: path.read_bytes() for path in sorted(paper.folder.root.glob("*/*.csv"))}


@pytest.mark.slow(minutes=6)
def test_all_stages_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.ephemeral() as instance:

        @contextmanager
        def ours(given: object) -> Iterator[dg.DagsterInstance]:
            yield instance

        monkeypatch.setattr(runner, "_instance", ours)
        for module in (paper_stages, paper_sweeps):  # other processes would not know that instance
            monkeypatch.setattr(module, "available_cores", lambda: 1)
        paper = smallest(tmp_path / "one")
        written = everything(paper)
        assert {"table1.csv", "table2.csv", "communication.csv", "privacy.csv", "participation.csv", "noniid.csv",
                "clients.csv", "privacy_utility.csv", "published.csv", "figure3.csv"} <= set(written)  # fmt: skip
        table = pd.read_csv(paper.folder.tables / "table1.csv")
        assert table["Method"].tolist()[:3] == ["PrivFedTalk", "FedAvg", "Local"] and "Noise" in set(table["Method"])
        assert table["n"].iloc[0] == 4 * 2  # a clip a client under each seed
        faces = paper.folder.figures / "qualitative"
        assert list(faces.glob("mouths_*.png")) and list((faces / "videos").glob("*.mp4"))
        assert not list((paper.folder.root / "scratch").iterdir())  # what sweeps tried is gone
        assert everything(smallest(tmp_path / "two")) == written
