"""The study's points on a world that is there already: what is trained, what is measured, and what the page says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from evaluation.experiments import driver
from evaluation.experiments.driver import Failure, make_points
from evaluation.experiments.points import Point
from evaluation.experiments.study import design as study
from evaluation.experiments.study.design import BACKBONE, Condition, Curve, Experiment
from evaluation.experiments.study.page import page
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.setups import Arm, Setup, point_of, results_path
from evaluation.experiments.study.summary import Results, gains
from evaluation.experiments.study.worlds import CENTRE, READY, Population, public_folder, world_folder
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for
from tests.training.small_models import small_backbone
from training.model.autoencoders.small import SmallVae
from training.model.backbones.tiny import TinyBackbone
from training.model.frozen.rulers import IdentityRuler
from training.settings import AdapterSettings, FederationSettings, TrainingSettings, VaeSettings


@pytest.fixture
def backbone() -> TinyBackbone:
    return small_backbone()


SETTINGS = StudySettings(
    training=TrainingSettings(
        federation=FederationSettings(rounds=2, local_steps=2, batch_size=2, score_frames=6, score_steps=1),
        adapter=AdapterSettings(rank=2),
    ),
    personal_steps=3,
    curve_rounds=(1,),
    draws=1,
)
FEDAVG, LOCAL = Arm(method="fedavg", personal=True), Arm(method="local", rounds=3)


@pytest.fixture
def home(tmp_path: Path, backbone: TinyBackbone) -> Path:
    """A study whose central world has three clients and one stranger, made of random clips."""
    public = public_folder(tmp_path, 0)
    backbone.save(public.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(public.model("vae"))
    IdentityRuler(width=8, embedding=8).save(public.model("rulers") / "identity")
    world = world_folder(tmp_path, 0, CENTRE)
    table = {}
    for client in CLIENTS:
        splits = ["train", "train", "validation", "test"]
        write_shards(world.client(client), [sample_for(client, i, split) for i, split in enumerate(splits)])
        table[client] = Client("client", client, {"train": [], "validation": [], "test": []})
    write_shards(world.client("u0"), [sample_for("c0", 9, "test")])
    table["u0"] = Client("unseen", "u0", {"train": [], "validation": [], "test": []})
    save_clients(table, world.clients_table)
    (world.root / "models").symlink_to(public.model(""))
    for folder in (public, world):
        (folder.root / READY).touch()
    return tmp_path


def rows_of(home: Path, setup: Setup) -> list[dict]:
    return [json.loads(line) for line in results_path(home, setup, SETTINGS).read_text().splitlines()]


def make(home: Path, setups: Sequence[Setup]) -> list[Failure]:
    return make_points([point_of(home, setup, SETTINGS) for setup in setups])


@pytest.mark.slow(minutes=0.1)
def test_a_study_that_was_killed_goes_on_with_what_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setups = [Setup(seed=0, arm=arm) for arm in (Arm(), FEDAVG, LOCAL)]
    assert make(home, setups[:1]) == []
    written = results_path(home, setups[0], SETTINGS).stat().st_mtime_ns
    scratch = home / "scratch" / setups[1].identifier(SETTINGS)  # as a killed process leaves it
    (scratch / "federation" / "fedavg").mkdir(parents=True)
    (scratch / "models").symlink_to(home)
    begun: list[str] = []
    really = driver.make_point

    def counted(point: Point) -> None:
        begun.append(point.name)
        really(point)

    monkeypatch.setattr(driver, "make_point", counted)
    assert make(home, [*setups, setups[1]]) == []
    assert begun == [setup.identifier(SETTINGS) for setup in setups[1:]]
    assert results_path(home, setups[0], SETTINGS).stat().st_mtime_ns == written
    assert not list((home / "scratch").iterdir())


@pytest.mark.slow(minutes=0.1)
def test_what_a_point_measures(home: Path) -> None:
    backbone, fedavg, local = (Setup(seed=0, arm=arm) for arm in (Arm(), FEDAVG, LOCAL))
    make(home, [backbone, fedavg, local])

    def losses(setup: Setup, stage: str, role: str = "client") -> dict[str, float]:
        wanted = [
            row for row in rows_of(home, setup) if (row["stage"], row["role"], row["metric"]) == (stage, role, "loss")
        ]
        return {row["person"]: row["value"] for row in wanted}

    assert set(losses(backbone, "final")) == set(CLIENTS)
    # One shared adapter after each round, then one for each client: all differ from the frozen backbone.
    assert {row["stage"] for row in rows_of(home, fedavg)} == {"round 1", "final", "personal"}
    for stage in ("round 1", "final", "personal"):
        assert set(losses(fedavg, stage)) == set(CLIENTS)
    assert len({losses(setup, stage)["c0"] for setup, stage in
                ((backbone, "final"), (fedavg, "final"), (fedavg, "personal"), (local, "final"))}) == 4  # fmt: skip
    # A client alone begins like a client of the federation, and differs once the server has stepped.
    assert losses(local, "round 1") != losses(fedavg, "round 1")
    assert set(losses(local, "final", "unseen")) == {"u0"}


def test_local_after_a_round_is_that_clients_part_of_fedavg(home: Path) -> None:
    alone = Setup(seed=0, arm=Arm(method="fedavg", rounds=1, clients=1))
    local = Setup(seed=0, arm=Arm(method="local", rounds=1, clients=1))
    make(home, [alone, local])
    by_method = [
        {row["person"]: row["value"] for row in rows_of(home, setup) if row["metric"] == "loss"}["c0"]
        for setup in (alone, local)
    ]
    assert by_method[0] == pytest.approx(by_method[1], rel=1e-6)


def test_a_point_that_fails_stops_no_other(home: Path) -> None:
    lost, good = Setup(seed=0, world=Population(shift=0.5)), Setup(seed=0)
    for folder in (public_folder(home, 0), world_folder(home, 0, lost.world)):
        folder.root.mkdir(exist_ok=True)
        (folder.root / READY).touch()
    failed = make(home, [lost, good])
    assert len(failed) == 1
    assert "shift0.5" in str(failed[0])
    assert results_path(home, good, SETTINGS).exists()


def test_gains_are_of_each_person_to_itself(tmp_path: Path) -> None:
    """A method that takes 2 to 3 % off everybody's loss is surely better, though people differ by hundreds."""
    arms = {"backbone": BACKBONE, "fedavg": Curve(Arm(method="fedavg"))}
    experiment = Experiment("x", "shift", (Condition(1.0, arms), Condition(0.5, arms, Population(shift=0.5))))
    rng = np.random.default_rng(0)
    cuts = rng.uniform(0.02, 0.03, (3, 4))
    for seed in experiment.seeds:
        base = rng.uniform(0.3, 3.0, 4)
        for curve, losses in (("backbone", base), ("fedavg", base * (1 - cuts[seed]))):
            setup = experiment.setup(seed, experiment.conditions[0], arms[curve])
            rows = [{"role": "client", "stage": "final", "person": f"c{i}", "metric": "loss", "value": loss}
                    for i, loss in enumerate(losses)]  # fmt: skip
            path = results_path(tmp_path, setup, SETTINGS)
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(map(json.dumps, rows)))
    (gain,) = gains(Results(tmp_path, SETTINGS), experiment)  # of the second condition nothing was run
    assert gain.mean == pytest.approx(-100 * cuts.mean())
    half = 2.201 * 100 * cuts.std(ddof=1) / np.sqrt(12)  # Student's t for 11 degrees of freedom
    assert (gain.low, gain.high) == pytest.approx((gain.mean - half, gain.mean + half), rel=1e-3)
    assert (gain.people, gain.better, gain.seeds, gain.agreeing) == (12, 12, 3, 3)
    assert gain.sure
    assert gain.p_holm == pytest.approx(2 / 2**12)


def test_experiments_share_the_central_setups() -> None:
    central = {setup for setup in study.CENTRAL.setups() if setup.seed == 0}
    shared = {setup for setup in study.SHIFT.setups() if setup.seed == 0 and setup.world == CENTRE}
    assert shared <= central


def test_the_pages_section_says_what_was_not_run(tmp_path: Path) -> None:
    text = page(Results(tmp_path, SETTINGS))
    assert text.startswith("# What the study measured")
    assert "Not run yet." in text
    assert "| methods | 0 of 50 |" in text


def test_every_method_stands_in_every_condition_that_it_can_serve() -> None:
    wanted = {"fedavg", "fedprox", "scaffold", "privfedtalk, no DP", "centralized"}
    for experiment in study.EXPERIMENTS:
        if experiment is study.SPOILED_CLIENTS:
            continue
        for condition in experiment.conditions:
            missing = wanted - set(condition.curves)
            assert missing <= ({"centralized"} if condition.x == "all, rank 8, ffa" else set()), (
                experiment.name,
                missing,
            )
