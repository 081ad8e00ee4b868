"""Whom a membership attack asks about, and the losses that it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.attacks.auc import Scores
from preparation.clients import load_clients, of_role
from preparation.errors import PrivFedTalkError
from preparation.folders import RunFolder
from preparation.shards import Sample, read_shards
from training.backbone.interface import Backbone
from training.data import ClipTensors
from training.settings import ObjectiveSettings
from training.validation import validation_loss


@dataclass(frozen=True)
class People:
    """Those whom the adversary asks about: names and clips; who was in; and the clients' clips that were held out."""

    names: tuple[str, ...]
    clips: Mapping[str, list[Sample]]
    was_in: NDArray[np.bool_]
    other_clips: Mapping[str, list[Sample]]

    @classmethod
    def of(cls, run: RunFolder, most: int | None) -> People:
        """The run's clients with their training clips, and the unseen people of the same population with theirs."""
        table = load_clients(run.clients_table)
        clients, strangers = of_role(table, "client"), of_role(table, "unseen")
        if not strangers:
            raise PrivFedTalkError(
                f"{run.root} has nobody of the clients' population who did not train",
                "prepare with preparation.clients.unseen_client_fraction above 0, or studio.unseen for rendered people",
            )
        clips = {name: list(read_shards(run.client(name), "train")) for name in clients}
        clips |= {name: list(read_shards(run.client(name), "test")) for name in strangers}
        clips = {name: some for name, some in clips.items() if some}
        most = most or min(map(len, clips.values()))
        names = tuple(clips)
        return cls(
            names,
            {name: some[:most] for name, some in clips.items()},
            np.array([name in clients for name in names]),
            {name: list(read_shards(run.client(name), "test"))[:most] for name in clients},
        )


def losses(
    backbone: Backbone, clips: Mapping[str, Sequence[Sample]], objective: ObjectiveSettings, seed: int, draws: int
) -> Scores:
    """Each person's denoising loss [people], under the same noise for every model."""
    return np.array(
        [
            validation_loss(backbone, [ClipTensors.from_sample(sample) for sample in some], objective, seed, draws)
            for some in clips.values()
        ]
    )
