"""A setup of the study: one way to train, on the people of one world, with one seed. Each is a point with one file.

A setup contains everything that decides its figures, so a setup that two experiments share is run once.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from common.settings import Settings
from evaluation.experiments.points import Federation, Point
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.worlds import Population, RenderedWorld, world_folder
from training.federation.methods import configure
from training.settings import AdapterSettings, Component, MethodName, TrainingSettings

Measured = Literal["loss", "generated"]


class Arm(Settings):
    """How the clients' adapters are made. `method` None is the frozen backbone; other fields left at None take the
    study's setting.

    `clients`: only so many take part. `without`: numbers of clients who do not take part, but are measured like all
    others. `gamma`: the sharpness of ISFA's weights; `score`: the score that ISFA weighs clients by.
    """

    method: MethodName | None = None
    components: tuple[Component, ...] | None = None
    rounds: int | None = None
    rank: int | None = None
    targets: Literal["attention", "all"] | None = None
    averaging: Literal["plain", "ffa"] | None = None
    clients: int | None = None
    without: tuple[int, ...] = ()
    noise_multiplier: float | None = None
    clip_norm: float | None = None
    gamma: float | None = None
    score: Literal["paper", "speech"] | None = None
    personal: bool = False

    def training(self, settings: StudySettings) -> TrainingSettings:
        """The settings under which the arm's method runs."""
        return configure(self.method or "fedavg", self.asked(settings))

    def asked(self, settings: StudySettings) -> TrainingSettings:
        """The study's settings with the arm's, before the method's own are applied."""
        training, privacy = settings.training, settings.training.privacy
        adapter: dict[str, object] = {"rank": self.rank, "targets": self.targets, "averaging": self.averaging}
        if self.rank is not None:
            adapter["alpha"] = float(self.rank)  # so that the scale of B A stays 1
        values = training.adapter.model_dump() | _given(adapter)
        federation = training.federation.model_copy(update=_given({"rounds": self.rounds, "score": self.score}))
        protected = _given(
            {"noise_multiplier": self.noise_multiplier, "clip_norm": self.clip_norm, "gamma": self.gamma}
        )
        components = {self.method: self.components} if self.method and self.components is not None else {}
        return training.model_copy(
            update={
                "adapter": AdapterSettings(**values),
                "federation": federation,
                "privacy": privacy.model_copy(update=protected),
                "components": components,
            }
        )


class Setup(Settings):
    """One arm in one world with one seed; `measured` says whether clips are generated, which costs most."""

    seed: int
    world: Population = Population()
    arm: Arm = Arm()
    measured: Measured = "loss"

    def identifier(self, settings: StudySettings) -> str:
        """A readable file name with a digest of every setting that decides the figures and differs from its default.

        A new setting whose default keeps the earlier behaviour therefore leaves the points' names as they are.
        """
        own = settings.model_dump(mode="json", exclude={"studio", "preparation", "training"})
        groups = (settings.studio, settings.preparation, settings.training)
        values = [own, *(group.model_dump(mode="json", exclude_defaults=True) for group in (self, *groups))]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]
        return f"seed{self.seed}-{self.world.name}-{self.arm.method or 'backbone'}-{digest}"


def results_path(root: Path, setup: Setup, settings: StudySettings) -> Path:
    """The file of a setup's point."""
    return root / "cells" / f"{setup.identifier(settings)}.jsonl"


def point_of(root: Path, setup: Setup, settings: StudySettings, device: str = "cpu") -> Point:
    """A setup as a point in the study's folder."""
    from evaluation.experiments.measuring import HeldOut  # takes seconds, which reading results need not wait for

    arm, path = setup.arm, results_path(root, setup, settings)
    differs = arm.model_dump(exclude_defaults=True, exclude={"method"})
    method = arm.method or "backbone"
    return Point(
        folder=path.parent,
        name=path.stem,
        label=f"seed {setup.seed} {setup.world.name} {method}" + (f" {differs}" if differs else ""),
        world=RenderedWorld(root, setup.seed, setup.world, settings, device),
        federation=Federation(
            arm.method,
            arm.asked(settings),
            setup.seed,
            without=arm.without,
            most=arm.clients,
            personal_steps=settings.personal_steps if arm.personal else 0,
            device=device,
        ),
        measurement=HeldOut(
            # Held-out clips are the same, and good, in all worlds that are derived from this one.
            world=world_folder(root, setup.seed, setup.world.rendered).root,
            objective=settings.training.objective,
            seed=setup.seed,
            draws=settings.draws,
            rounds=settings.curve_rounds,
            controls=settings.control_adapters,
            generated_clips=settings.generated_clips if setup.measured == "generated" else 0,
        ),
        scratch=root / "scratch",
        about={"seed": setup.seed, "world": setup.world.name, "method": method, "arm": differs},
    )


def _given(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
