"""Shadow federations: the adversary's own runs on halves of the people, to learn what a member's scores look like.

Runs come in pairs, a random half and the other half, so that everybody is a member in half of the runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import seeding
from common.folders import RunFolder
from evaluation.attacks.auc import Area, Scores, area_within_runs
from evaluation.attacks.people import People, losses
from evaluation.experiments.driver import make_points, raise_first
from evaluation.experiments.links import link_networks
from evaluation.experiments.points import (
    CLIENT,
    FINAL,
    UNSEEN,
    Federation,
    Point,
    Row,
    World,
    digest_of,
    read_rows,
)
from evaluation.experiments.trained import Trained
from preparation.clients.roles import Client, load_clients, of_role, save_clients
from preparation.shards.store import Sample, write_shards
from training.federation.methods import configure
from training.model.device import choose_device
from training.settings import ObjectiveSettings, TrainingSettings


@dataclass(frozen=True)
class Shadows:
    """Losses and gains float64 [runs, people], and who was in which run, bool [runs, people]."""

    losses: Scores
    gains: Scores
    included: NDArray[np.bool_]

    def areas(self, seed: int, level: float = 0.95) -> dict[str, Area]:
        """AUC of the attacks on each run in turn; the other runs are the adversary's own for the likelihood ratio."""
        ratios = np.stack([likelihood_ratios(self.gains[run], self.without(run)) for run in range(len(self.gains))])
        scores = {"loss": -self.losses, "gain": self.gains, "ratio": ratios}
        return {name: area_within_runs(score, self.included, seed, level) for name, score in scores.items()}

    def without(self, run: int) -> Shadows:
        """All runs but one."""
        others = np.arange(len(self.gains)) != run
        return Shadows(self.losses[others], self.gains[others], self.included[others])


def likelihood_ratios(gains: Scores, shadows: Shadows) -> Scores:
    """log N(g; μ_in, σ) − log N(g; μ_out, σ) of each person [people]. Means are the person's own; σ is common to all,
    because a dozen runs are too few to fit one for each (Carlini et al. 2022, section VI-C)."""
    inside = np.where(shadows.included, shadows.gains, np.nan)
    outside = np.where(shadows.included, np.nan, shadows.gains)
    mean_in, mean_out = np.nanmean(inside, axis=0), np.nanmean(outside, axis=0)
    residuals = np.where(shadows.included, shadows.gains - mean_in, shadows.gains - mean_out)
    variance = float((residuals**2).mean()) + 1e-12
    return ((gains - mean_out) ** 2 - (gains - mean_in) ** 2) / (2 * variance)


def draw_halves(people: int, runs: int, seed: int) -> NDArray[np.bool_]:
    """bool [runs, people]: a random half, then the other half, and so on."""
    included = np.zeros((runs, people), bool)
    for pair in range(0, runs, 2):
        order = seeding.generator(seed, "shadow", str(pair)).permutation(people)
        included[pair, order[: people // 2]] = True
        included[pair + 1] = ~included[pair]
    return included


def train_shadows(
    run: RunFolder,
    method: str,
    people: People,
    training: TrainingSettings,
    before: Scores,
    seed: int,
    count: int,
    draws: int,
    on_shadow: Callable[[int, int], None],
) -> Shadows:
    """Federate `count` halves of the people by the run's method, settings and frozen networks.

    Seeds differ from the run's: the adversary knows neither its batches nor its noise. before: the frozen backbone's
    losses. Each shadow is a point whose file is kept in the run's folder: an attack that was interrupted, or that is to
    have more shadows, goes on with those that are there.
    """
    included = draw_halves(len(people.names), count, seed)
    # The backbone's losses take the place of its weights, the clips, and the noise with which the losses are computed.
    parts = [method, configure(method, training).fingerprint(), str(seed), *people.names, before.tobytes().hex()]
    made_from, everybody = digest_of(*parts, str(draws)), sorted(people.names)
    measurement = KnownClips(people.clips, training.objective, seed, draws)
    with tempfile.TemporaryDirectory() as folder:
        world = KnownPeople(run, people.clips, Path(folder) / "world")
        points = []
        for number, members in enumerate(included):
            half = {name for name, is_in in zip(people.names, members, strict=True) if is_in}
            own_seed = int(seeding.generator(seed, "shadow run", str(number)).integers(2**31))
            sit_out = tuple(place for place, name in enumerate(everybody) if name not in half)
            points.append(
                Point(
                    folder=run.attack("membership", method) / "shadows",
                    name=f"{made_from}-{number}",
                    label=f"shadow run {number + 1} of {count}",
                    world=world,
                    federation=Federation(method, training, own_seed, without=sit_out, device=str(choose_device())),
                    measurement=measurement,
                    scratch=Path(folder),
                    about={"method": method, "seed": own_seed, "shadow": number},
                )
            )
        finished: list[Point] = []

        def count_point(point: Point) -> None:
            finished.append(point)
            on_shadow(len(finished), count)

        raise_first(make_points(points, one_thread=False, on_point=count_point))
    after = np.array([[_losses_in(point)[name] for name in people.names] for point in points])
    return Shadows(after, np.log(before / after), included)


def _losses_in(point: Point) -> dict[str, float]:
    return {row["person"]: row["value"] for row in read_rows(point.path)}


@dataclass(frozen=True)
class KnownPeople:
    """A world of everybody whom the adversary knows. Each is a client who trains on its known clips; the first of them
    also is the clip that it is scored on."""

    run: RunFolder
    clips: Mapping[str, Sequence[Sample]]
    root: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.root)

    @property
    def needs(self) -> tuple[World, ...]:
        return ()

    @property
    def ready(self) -> bool:
        return self.folder.clients_table.exists()

    def make(self) -> None:
        world = self.folder
        for name, clips in self.clips.items():
            scored = replace(clips[0], key=f"{clips[0].key}-scored", split="validation")
            write_shards(world.client(name), [*(replace(clip, client=name, split="train") for clip in clips), scored])
        link_networks(world, self.run)
        table = {name: Client("client", name, {"train": [], "validation": [], "test": []}) for name in self.clips}
        save_clients(table, world.clients_table)


@dataclass(frozen=True)
class KnownClips:
    """A measurement: everybody's loss on the clips that the adversary knows, under a shadow's shared adapter."""

    clips: Mapping[str, Sequence[Sample]]
    objective: ObjectiveSettings
    seed: int
    draws: int

    def __call__(self, trained: Trained) -> Iterator[Row]:
        model = trained.model(trained.shared[trained.last])
        members = set(of_role(load_clients(trained.run.clients_table), "client"))
        for name, loss in zip(
            self.clips, losses(model, self.clips, self.objective, self.seed, self.draws), strict=True
        ):
            role = CLIENT if name in members else UNSEEN
            yield {"role": role, "stage": FINAL, "person": name, "metric": "loss", "value": float(loss)}
