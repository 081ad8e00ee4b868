"""The whole pipeline at its smallest, through Dagster: every stage runs, repeats exactly, and is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.stage.partitions import REFERENCES
from common.folders import NETWORK_WEIGHTS, RunFolder
from pipelines.configuration.tree import read_overrides
from pipelines.jobs import WHOLE_RUN
from pipelines.runner import run_jobs
from tests.pipelines.smallest import SMALLEST_STUDIO
from training.settings import TrainingSettings

SMALLER = [
    *SMALLEST_STUDIO,
    "training.vae.steps=5",
    "training.pretraining.steps=4",
    "training.federation.rounds=1",
    "workers=1",
]
ONE_PERSON = [
    "corpus.kind=lrs3",
    "preparation.faces.tracker=truth",
    "training.methods=[local]",
    "training.federation.rounds=1",
    "training.consent.required=false",
    "training.privacy.seeded_noise=null",
    "workers=1",
]
HEADLINE = ["psnr", "ssim", "mouth_psnr", "lip_correlation", "identity", "validation_loss", "mean_frame_delta", "n"]


def run(data: Path) -> dict:
    with dg.DagsterInstance.ephemeral() as instance:
        run_jobs(WHOLE_RUN, "small", read_overrides([f"data={data}", *SMALLER]), instance=instance)
    return json.loads(RunFolder(data / "small").results.read_text())


def without_machine(results: dict) -> dict:
    """Results without what the clock and the memory of one run decide."""
    return {key: value for key, value in results.items() if key not in {"seconds", "peak_memory_gb"}}


@pytest.mark.slow(minutes=3)
def test_the_smallest_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = run(tmp_path / "first")
    folder = RunFolder(tmp_path / "first" / "small")

    # Every method and reference has its figures; every stage its seconds.
    assert set(results["methods"]) == {*TrainingSettings().methods, *REFERENCES}
    assert all(name in row for row in results["methods"].values() for name in HEADLINE)
    assert {"corpus", "crops", "vae", "shards", "backbone", "federation/privfedtalk", "total"} <= set(
        results["seconds"]
    )
    assert 0 < results["peak_memory_gb"] < 6
    assert results["privacy"]["epsilon_release"] > 0
    for method in TrainingSettings().methods:  # seeded noise, or none: wherever they are named they are marked
        assert results["methods"][method]["private"] is False
        assert results["methods"][method]["privacy"].startswith("NOT PRIVATE")
        assert "NOT PRIVATE" in json.loads((folder.adapter(method) / "privfedtalk.json").read_text())["privacy"]
        assert "NOT PRIVATE" in (folder.report / "privacy" / f"{method}.html").read_text()
    assert results["communication"]["trainable_parameters"] > 0
    page = (folder.root / results["report"]).read_text()
    assert "<video" in page
    assert page.count(">not private</span>") >= len(TrainingSettings().methods)
    assert "http://" not in page.replace("http://www.w3.org", "")

    # Nothing changed: everything is kept, and the results are the same.
    capfd.readouterr()
    assert run(tmp_path / "first") == results
    printed = capfd.readouterr().err
    assert "started" not in printed
    stages = results["seconds"].keys() - {"total"} | {"report"}
    assert printed.count("unchanged, kept") == len(stages)

    # Same seed, same machine, another folder: the same results.
    assert without_machine(run(tmp_path / "second")) == without_machine(results)

    # Somebody with a few clips, among whom nobody is public, uses that run's networks.
    shutil.copytree(folder.corpus / "trainval" / "c0000", tmp_path / "clips" / "trainval" / "me")
    places = [f"data={tmp_path}", "run=mine", f"corpus.root={tmp_path / 'clips'}", f"training.public_run={folder.root}"]
    with dg.DagsterInstance.ephemeral() as instance:
        run_jobs(WHOLE_RUN, "small", read_overrides([*places, *ONE_PERSON]), instance=instance)
    mine = RunFolder(tmp_path / "mine")
    own = json.loads(mine.results.read_text())
    assert own["methods"]["local"]["psnr"] > 0 and own["bars"] == []
    weights = [one.model("backbone") / NETWORK_WEIGHTS for one in (mine, folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert "is another run's" in mine.page.read_text()
