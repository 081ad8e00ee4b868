"""A sweep's stage keeps the points that it has, makes those that are missing, and leaves no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from evaluation.experiments import driver
from evaluation.experiments.paper.worlds import SeedWorld
from evaluation.experiments.points import Point, write_rows
from pipelines.paper import sweeps
from pipelines.paper.settings import PaperSettings, read_paper


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PaperSettings:
    """The paper's settings with a folder of their own, whose people and networks are taken as made."""
    monkeypatch.setattr(sweeps, "available_cores", lambda: 1)
    monkeypatch.setattr(SeedWorld, "make", lambda self: None)
    monkeypatch.setattr(SeedWorld, "digest", lambda self: "people and networks")
    monkeypatch.setattr(driver, "make_point", made)
    counts = read_paper().sweeps.model_copy(update={"clients_per_round": (4, 7)})
    return read_paper().model_copy(update={"data": tmp_path, "sweeps": counts})


def made(point: Point) -> None:
    write_rows(point.path, point.about, [{"role": "federation", "person": "", "metric": "clients", "value": 10}])


def points(paper: PaperSettings) -> dict[str, int]:
    """Name -> time of writing of what lies in the stage's folder."""
    folder = paper.folder.sweep("participation") / "fedavg"
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} if folder.exists() else {}


def test_a_stage_that_failed_goes_on_with_what_is_missing(
    paper: PaperSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(point: Point) -> None:
        if "-7-" in point.name:
            raise PrivFedTalkError("the disk is full", "free some")
        made(point)

    with monkeypatch.context() as broken:
        broken.setattr(driver, "make_point", stopped)
        with pytest.raises(PrivFedTalkError, match="the disk is full"):
            sweeps.run_participation(paper, "fedavg")
    before = points(paper)
    assert len(before) == 1
    sweeps.run_participation(paper, "fedavg")
    assert len(points(paper)) == 2 and before.items() <= points(paper).items()


def test_other_people_settings_or_code_are_other_points_and_only_those_that_are_asked_for_stay(
    paper: PaperSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = paper.folder.sweep("participation") / "fedavg.json"  # of the time when a stage left one file
    older.parent.mkdir(parents=True)
    older.write_text("[]")
    sweeps.run_participation(paper, "fedavg")
    first = points(paper)
    assert not older.exists() and len(first) == 2
    fewer = paper.model_copy(update={"sweeps": paper.sweeps.model_copy(update={"clients_per_round": (4,)})})
    sweeps.run_participation(fewer, "fedavg")
    assert points(paper).items() < first.items()
    for change in ("people", "code", "settings"):
        before = set(points(paper))
        if change == "people":
            monkeypatch.setattr(SeedWorld, "digest", lambda self: "other people")
        elif change == "code":
            monkeypatch.setattr(sweeps, "code_version", lambda *modules: "another version")
        else:
            fewer = fewer.model_copy(update={"own": {**fewer.own, "fedavg": {"federation": {"rounds": 3}}}})
        sweeps.run_participation(fewer, "fedavg")
        assert len(points(paper)) == 1 and not before & set(points(paper)), change


def test_what_is_dealt_anew_is_one_world_for_all_methods(paper: PaperSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Point] = []
    monkeypatch.setattr(driver, "_prepare", lambda world: None)

    def make(point: Point) -> None:
        asked.append(point)
        made(point)

    monkeypatch.setattr(driver, "make_point", make)
    sweeps.run_dealt(paper, "0.1")
    assert [point.federation.method for point in asked] == list(paper.sweeps.methods)
    assert len({point.world.folder.root for point in asked}) == 1
    sweeps.run_noise(paper, "0.2")
    noisy = asked[len(paper.sweeps.methods) :]
    assert [(p.about["setting"], p.federation.training.privacy.clip_norm) for p in noisy] == [
        ({"z": 0.2, "C": norm}, norm) for norm in paper.sweeps.clip_norms
    ]
    assert {point.federation.training.privacy.noise_multiplier for point in noisy} == {0.2}
