"""The first assets, really materialised: a small corpus is rendered, listed and shared out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.preparation.corpus import clients, corpus, manifest, splits_disjoint
from common.folders import RunFolder
from pipelines.configuration.tree import load, read_overrides
from pipelines.resources import RunResource, open_run
from preparation.media.writing import encode
from preparation.quarantine import load_quarantine
from tests.preparation.conftest import hiss, noise

TINY = [
    "run=tiny",
    "studio.public_speakers=2",
    "studio.public_clips=1",
    "studio.clients=1",
    "studio.client_clips=3",
    "studio.unseen=0",
    "studio.volunteers=0",
    "studio.seconds=0.8",
    "studio.size=64",
    "workers=1",
]


def materialise(data: Path, *more: str, keep: bool = True) -> dg.ExecuteInProcessResult:
    overrides = [f"data={data}", *TINY, *more]
    run = RunResource(profile="small", overrides=read_overrides(overrides), keep=keep)
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [corpus, manifest, clients, splits_disjoint],
            instance=instance,
            resources={"run": run},
            raise_on_error=False,
        )


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict:
    (materialisation,) = result.asset_materializations_for_node(asset)
    return {key: value.value for key, value in materialisation.metadata.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    assert materialise(data).success
    return data


def test_metadata_counts_what_is_there(made: Path) -> None:
    result = materialise(made)
    assert metadata_of(result, "manifest")["clips"] == 5
    assert metadata_of(result, "clients")["public"] == 2
    assert metadata_of(result, "clients")["client"] == 1
    (check,) = result.get_asset_check_evaluations()
    assert check.passed


def test_an_unchanged_run_renders_nothing(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    materialise(made)
    printed = capfd.readouterr().err
    assert printed.count("unchanged, kept") == 3
    assert "rendering" not in printed


@pytest.mark.slow(minutes=0.1)
def test_another_seed_is_another_corpus_and_versions_follow(made: Path, tmp_path: Path) -> None:
    first = json.loads((made / "tiny" / "stages" / "corpus.json").read_text())
    assert materialise(tmp_path).success
    assert json.loads((tmp_path / "tiny" / "stages" / "corpus.json").read_text())["version"] == first["version"]
    assert materialise(tmp_path, "seed=1").success
    assert json.loads((tmp_path / "tiny" / "stages" / "corpus.json").read_text())["version"] != first["version"]


def test_a_corpus_that_was_there_is_only_read(made: Path, tmp_path: Path) -> None:
    root = RunFolder(made / "tiny").corpus
    before = sorted(path for path in root.rglob("*"))
    result = materialise(tmp_path, f"corpus.root={root}")
    assert result.success
    assert metadata_of(result, "manifest")["clips"] == 5
    assert sorted(path for path in root.rglob("*")) == before
    assert not RunFolder(tmp_path / "tiny").corpus.exists()


def test_a_clip_with_two_clients_fails_the_blocking_check(made: Path) -> None:
    path = RunFolder(made / "tiny").people_table
    good = path.read_text()
    table = json.loads(good)
    table["p0000"]["splits"]["train"].append(table["c0000"]["splits"]["test"][0])
    try:
        path.write_text(json.dumps(table))
        check = splits_disjoint(run=open_run(load("small", [f"data={made}", *TINY]), keep=True))
        assert not check.passed
        assert table["c0000"]["splits"]["test"][0] in str(check.metadata)
    finally:
        path.write_text(good)


def film(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(noise(6, seed=seed), hiss(0.24, seed), path)
    return path


def test_a_folder_with_its_own_run_inside_and_odd_names_is_read_once(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    for number, who in enumerate(("anna", "bert", "cleo", "anna", "bert", "cleo")):
        film(root / who / f"{number}.webm", number)
    film(tmp_path / "odd.mp4", 9).rename(root / "anna" / os.fsdecode(b"\xff.mp4"))
    options = ("corpus.kind=folder", f"corpus.root={root}", "training.privacy.seeded_noise=null")
    first = materialise(root / "data", *options)
    assert first.success and metadata_of(first, "manifest")["clips"] == 6
    shutil.copy(root / "bert" / "1.webm", root / "data" / "tiny" / "clip.mp4")
    again = materialise(root / "data", *options, keep=False)
    assert again.success and metadata_of(again, "manifest")["clips"] == 6
    rows = {row.file: row.reason for row in load_quarantine(RunFolder(root / "data" / "tiny").quarantine)}
    assert rows["anna/\\udcff.mp4"] == "the file's name is not valid UTF-8"
    assert "folder of a run" in rows["data/tiny"] and set(rows) == {"anna/\\udcff.mp4", "data/tiny"}


def test_a_run_in_the_place_of_its_corpus_and_a_missing_list_are_plain_errors(tmp_path: Path) -> None:
    film(tmp_path / "tiny" / "pretrain" / "anna" / "0.mp4", 0)
    options = (f"corpus.root={tmp_path / 'tiny'}", "training.privacy.seeded_noise=null")
    for more, said in (
        (("corpus.kind=folder",), "both the corpus and the run's folder"),
        (
            ("corpus.kind=lrs3", f'preparation.corpus.lists=["{tmp_path}/nowhere.txt"]', "run=other"),
            "nowhere.txt cannot",
        ),
    ):
        result = materialise(tmp_path, *options, *more)
        failures = [event for event in result.all_events if event.is_step_failure]
        assert not result.success and said in str(failures[0].event_specific_data)
