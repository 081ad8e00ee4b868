"""A cell of the study: one way to train, on the people of one world, with one seed. Its results are one file.

A cell names all that decides its figures, so cells that two experiments share are run once, and a study that was
killed goes on with those that have no file yet.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from common.settings import Settings
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.worlds import World
from training.federation.methods import configure
from training.settings import AdapterSettings, Component, MethodName, TrainingSettings

Measured = Literal["loss", "generated"]


class Arm(Settings):
    """How the clients' adapters are made. `method` None is the frozen backbone; what is left at None is the study's.

    `clients`: only so many take part. `without`: numbers of clients who are left out, all others being measured too.
    `gamma`: ISFA's sharpness; `score`: what it weighs by.
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
        whole = training.model_copy(
            update={
                "adapter": AdapterSettings(**values),
                "federation": federation,
                "privacy": privacy.model_copy(update=protected),
                "components": components,
            }
        )
        return without_unread_score(configure(self.method or "fedavg", whole))


class Cell(Settings):
    """One arm in one world with one seed; `measured` says whether clips are generated, which costs most."""

    seed: int
    world: World = World()
    arm: Arm = Arm()
    measured: Measured = "loss"

    def identifier(self, settings: StudySettings) -> str:
        """A file name for people, with a digest of all that decides the figures and is not the default in code.

        So a setting that is new, and whose default keeps what was computed before, leaves the cells as they are.
        """
        own = settings.model_dump(mode="json", exclude={"studio", "preparation", "training"})
        groups = (settings.studio, settings.preparation, settings.training)
        values = [own, *(group.model_dump(mode="json", exclude_defaults=True) for group in (self, *groups))]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]
        return f"seed{self.seed}-{self.world.name}-{self.arm.method or 'backbone'}-{digest}"


def without_unread_score(settings: TrainingSettings) -> TrainingSettings:
    """The settings of a method at work; where it does not weigh by the score nobody reads it, and a cheap one will do.

    Adapters are the same to the bit: metrics travel beside the update and are not clipped with it.
    """
    if settings.privacy.gamma != 0:
        return settings
    federation = settings.federation.model_copy(update={"score_clips": 1, "score_frames": 2, "score_steps": 1})
    return settings.model_copy(update={"federation": federation})


def _given(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
