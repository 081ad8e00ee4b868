"""The driver makes what is missing and nothing else, worlds before points, and says what failed."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.attacks.people import People
from evaluation.attacks.shadows import KnownClips, KnownPeople
from evaluation.experiments import driver
from evaluation.experiments.driver import make_points, raise_first
from evaluation.experiments.federations import scratch_run, train
from evaluation.experiments.points import Federation, Measurement, Point, Row, World, digest_of, read_rows
from evaluation.experiments.trained import Trained
from tests.evaluation.attacks.small_people import CLIENTS, TRAINING, make_run

ROUND = TRAINING.model_copy(
    update={"federation": TRAINING.federation.model_copy(update={"rounds": 1, "local_steps": 1})}
)


@dataclass(frozen=True)
class Copied:
    """A small run of people; `needed` is made first, and a `broken` world cannot be made."""

    root: Path
    needed: Copied | None = None
    broken: bool = False

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.root)

    @property
    def needs(self) -> tuple[World, ...]:
        return (self.needed,) if self.needed else ()

    @property
    def ready(self) -> bool:
        return (self.root / "ready").exists()

    def make(self) -> None:
        with (self.root.parent / "made.txt").open("a", encoding="utf-8") as log:
            log.write(f"{self.root.name}\n")
        if self.broken:
            raise PrivFedTalkError(f"{self.root.name} cannot be rendered", "render another")
        make_run(self.root)
        (self.root / "ready").touch()


@dataclass(frozen=True)
class Norm:
    """The length of the shared adapter."""

    def __call__(self, trained: Trained) -> Iterator[Row]:
        value = float(np.linalg.norm(trained.shared[trained.last]))
        yield {"role": "federation", "stage": "final", "person": "", "metric": "norm", "value": value}


def point(tmp_path: Path, world: World, seed: int = 0, measurement: Measurement = Norm()) -> Point:
    federation = Federation("fedavg", ROUND, seed)
    name = digest_of(world.folder.root.name, str(seed))
    return Point(
        tmp_path / "points", name, f"point {seed}", world, federation, measurement, tmp_path / "scratch", {"seed": seed}
    )


def test_worlds_are_made_once_and_those_they_need_before_them(tmp_path: Path) -> None:
    public = Copied(tmp_path / "public")
    world = Copied(tmp_path / "world", needed=public)
    assert make_points([point(tmp_path, world, seed) for seed in (0, 1)]) == []
    assert (tmp_path / "made.txt").read_text().split() == ["public", "world"]
    rows = read_rows(point(tmp_path, world, 1).path)
    assert [row["seed"] for row in rows] == [1] and rows[0]["value"] > 0


def test_what_has_its_file_is_kept_and_the_rest_is_told_of(tmp_path: Path) -> None:
    points = [point(tmp_path, Copied(tmp_path / "world"), seed) for seed in (0, 1)]
    make_points(points[:1])
    written = points[0].path.stat().st_mtime_ns
    told: list[str] = []
    make_points([points[1], *points], on_point=lambda one: told.append(str(one)))
    assert told == ["point 0", "point 1"] and points[0].path.stat().st_mtime_ns == written


def test_a_world_that_fails_fails_its_points_once_and_no_others(tmp_path: Path) -> None:
    broken, good = Copied(tmp_path / "broken", broken=True), Copied(tmp_path / "good")
    failed = make_points([*(point(tmp_path, broken, seed) for seed in (0, 1)), point(tmp_path, good)])
    assert len(failed) == 2 and all("broken cannot be rendered" in str(one) for one in failed)
    assert (tmp_path / "made.txt").read_text().split() == ["broken", "good"]
    assert point(tmp_path, good).path.exists()
    with pytest.raises(PrivFedTalkError, match="broken cannot be rendered"):
        raise_first(failed)


def test_no_point_is_begun_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point(tmp_path, Copied(tmp_path / "world"), seed) for seed in (0, 1)]
    monkeypatch.setattr(driver, "make_point", lambda one: time.sleep(0.2))
    assert make_points(points, minutes=0.1 / 60) == []
    assert not any(one.path.exists() for one in points)


def test_an_interrupted_point_leaves_no_file_and_is_made_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [point(tmp_path, Copied(tmp_path / "world"), seed) for seed in (0, 1)]
    really = Norm.__call__

    def interrupted(self: Norm, trained: Trained) -> Iterator[Row]:
        if trained.seed == 1:
            raise KeyboardInterrupt
        return really(self, trained)

    with monkeypatch.context() as broken:
        broken.setattr(Norm, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_points(points)
    assert points[0].path.exists() and not points[1].path.exists()
    kept = points[0].path.read_bytes()
    assert make_points(points) == []
    assert points[0].path.read_bytes() == kept and points[1].path.exists()
    assert not list((tmp_path / "scratch").iterdir())


KILLED = """
import os, signal
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Killed:
    mark: Path
    then: object

    def __call__(self, trained):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.then(trained)
"""


@pytest.mark.slow
def test_points_side_by_side_are_those_of_one_process_and_a_killed_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killed_once.py").write_text(KILLED)  # a module that other processes find, too
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "killed_once", raising=False)
    killed_once = importlib.import_module("killed_once")
    run = make_run(tmp_path / "mine")
    people = People.of(run, "fedavg", None)
    measurement = KnownClips(people.clips, ROUND.objective, 0, 1)
    found = []
    for root, workers in ((tmp_path / "alone", 1), (tmp_path / "beside", 2)):
        world = KnownPeople(run, people.clips, root / "world")
        killing = killed_once.Killed(root / "mark", measurement) if workers == 2 else measurement
        points = [point(root, world, seed, killing if seed == 1 else measurement) for seed in range(3)]
        assert make_points(points, workers) == []
        found.append({path.name: path.read_bytes() for path in sorted((root / "points").iterdir())})
    assert (tmp_path / "beside" / "mark").exists()
    assert len(found[0]) == 3 and found[0] == found[1]


def test_a_scratch_run_has_those_who_take_part_and_leaves_the_world_as_it_was(tmp_path: Path) -> None:
    world = make_run(tmp_path / "world")

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}

    before = files()
    federation = Federation("local", ROUND, seed=0, without=(1,), most=3, personal_steps=0)
    with scratch_run(world, tmp_path / "scratch" / "one", federation) as run:
        trained = train(run, federation)
        assert set(trained.own[1]) == {CLIENTS[0], CLIENTS[2], CLIENTS[3]}
        lines = run.rounds("local").read_text().splitlines()
        assert [json.loads(line)["clients"] for line in lines] == [["c0", "c2", "c3"]]
    assert not (tmp_path / "scratch" / "one").exists() and files() == before


def test_nobody_is_trained_by_no_method(tmp_path: Path) -> None:
    world, federation = make_run(tmp_path / "world"), Federation(None, ROUND, seed=0, personal_steps=3)
    with scratch_run(world, tmp_path / "scratch", federation) as run:
        trained = train(run, federation)
    assert list(trained.shared) == [0] and not trained.own and not trained.personal
    with scratch_run(world, tmp_path / "scratch", trained_one := replace(federation, method="fedavg")) as run:
        assert set(train(run, trained_one).personal) == set(CLIENTS)
