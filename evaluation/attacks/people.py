"""The people of a membership attack, and the losses that it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.attacks.auc import Scores
from preparation.clients.roles import load_clients, of_role
from preparation.shards.gate import Gate
from preparation.shards.store import Sample
from training.adapters.membership import counted_in_release
from training.learning.validation import validation_loss
from training.model.backbones.interface import Backbone
from training.model.data import ClipTensors
from training.settings import ObjectiveSettings


@dataclass(frozen=True)
class People:
    """The people whom the adversary attacks: names and clips, who was a member, and the members' held-out clips."""

    names: tuple[str, ...]
    clips: Mapping[str, list[Sample]]
    was_in: NDArray[np.bool_]
    other_clips: Mapping[str, list[Sample]]

    @classmethod
    def of(cls, run: RunFolder, method: str, most: int | None, required: bool = True) -> People:
        """The run's clients with their training clips, and the unseen people of the same population with theirs.

        The method's rounds say who was a member: a client who sat out, or was never drawn, was not. People who may not
        be trained on are left out, because shadow federations train on all. most: clips of each person; None: as many
        as everybody has. required: `training.consent.required`.
        """
        table, gate = load_clients(run.clients_table), Gate(run, "training", required)
        clients, strangers = (gate.admit(of_role(table, role), "the attack") for role in ("client", "unseen"))
        members = counted_in_release(run, method).intersection(clients)
        if not members:
            raise PrivFedTalkError(
                f"nobody who is in the adapter of {method} in {run.root} may be attacked",
                "record what clients agreed to: privfedtalk consent grant, or train the method first",
            )
        if not strangers and members.issuperset(clients):
            raise PrivFedTalkError(
                f"{run.root} has nobody of the clients' population who did not train",
                "prepare with preparation.clients.unseen_client_fraction above 0, or studio.unseen for rendered people",
            )
        clips = {name: list(gate.samples(name, "train")) for name in clients}
        clips |= {name: list(gate.samples(name, "test")) for name in strangers}
        clips = {name: held for name, held in clips.items() if held}
        most = most or min(map(len, clips.values()))
        names = tuple(clips)
        return cls(
            names,
            {name: held[:most] for name, held in clips.items()},
            np.array([name in members for name in names]),
            {name: list(gate.samples(name, "test"))[:most] for name in names if name in members},
        )


def losses(
    backbone: Backbone, clips: Mapping[str, Sequence[Sample]], objective: ObjectiveSettings, seed: int, draws: int
) -> Scores:
    """Each person's denoising loss, float64 [people], with the same noise for every model."""
    return np.array(
        [
            validation_loss(backbone, [ClipTensors.from_sample(sample) for sample in samples], objective, seed, draws)
            for samples in clips.values()
        ]
    )
