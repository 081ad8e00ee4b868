"""A federation of three small clients on real shards: what the tests of rounds and methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common.folders import RunFolder
from preparation.clients.roles import Client
from preparation.settings import ConsentSettings
from preparation.shards.store import Sample, write_shards
from tests.training.small_models import make_clip
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.client.training import Announcement, ClientTrainer, LocalUpdate
from training.federation.methods import configure
from training.model.autoencoders.small import SmallVae
from training.model.backbones.interface import Backbone
from training.model.frozen.rulers import IdentityRuler
from training.settings import AdapterSettings, FederationSettings, TrainingSettings, VaeSettings
from training.settings.privacy import PrivacySettings

CLIENTS = ["c0", "c1", "c2"]
FEDERATION = FederationSettings(rounds=3, local_steps=2, batch_size=2, score_frames=6, score_steps=2)

TrainerFor = Callable[..., ClientTrainer]


def sample_for(client: str, number: int, split: str) -> Sample:
    clip = make_clip(100 * CLIENTS.index(client) + number, frames=12)
    landmarks = np.full((12, 68, 2), 32, np.float32) + np.random.default_rng(number).normal(0, 8, (12, 68, 2))
    return Sample(
        key=f"{client}_{number}",
        client=client,
        clip_id=f"{client}/{number}",
        split=split,
        latents=clip.latents.numpy().astype(np.float16),
        speech=clip.speech.numpy().astype(np.float16),
        reference_latent=clip.reference.numpy().astype(np.float16),
        reference=np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8),
        landmarks=landmarks.astype(np.float32),
        motion=clip.motion.numpy(),
    )


class InProcess:
    """The engine without processes."""

    def __init__(self, trainer: ClientTrainer) -> None:
        self.trainer = trainer

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        return {client: self.trainer.train(client, announced) for client in clients}


def save_public(run: RunFolder, backbone: Backbone) -> dict[str, Client]:
    """Put the frozen networks, untrained, and a held-out public speaker into a run; the table of people so far."""
    backbone.save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    write_shards(run.client("p0"), [sample_for("c0", 7, "validation")])
    return {"p0": Client("public", "p0", {"train": [], "validation": ["p0/0"], "test": []})}


def whole_settings(**privacy: object) -> TrainingSettings:
    # Among three clients of whom one may collude none may drop out: tests of dropouts tolerate no colluder.
    quiet = {"noise_multiplier": 0.0, "seeded_noise": 1, "tolerated_colluders": 0}
    values = {"clip_norm": 0.05, "n_max": 3, **quiet, **privacy}
    return TrainingSettings(
        federation=FEDERATION,
        adapter=AdapterSettings(rank=2),
        privacy=PrivacySettings(**values),
        consent=ConsentSettings(required=False),
    )


def settings_with(method: str, **privacy: object) -> TrainingSettings:
    return configure(method, whole_settings(**privacy))


def federate(
    trainer_for: TrainerFor, method: str, settings: TrainingSettings, folder: Path, rounds: int = 3
) -> FederationResult:
    """All rounds in this process, or those that are left in `folder`."""
    federation = settings.federation.model_copy(update={"rounds": rounds})
    settings = settings.model_copy(update={"federation": federation})
    trainer = trainer_for(settings, method)
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256, trainer.adapter.factors)
    return run_federation(InProcess(trainer), method, start, CLIENTS, lambda theta: 0.0, settings, folder, seed=5)
