"""A run of five clients and five strangers whose clips can only be known by heart, for the tests of attacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.folders import RunFolder
from evaluation.experiments.federations import scratch_run, train
from evaluation.experiments.points import Federation
from evaluation.experiments.trained import Trained
from preparation.clients.consent import record_rendered
from preparation.clients.roles import Client, Role, save_clients
from preparation.shards.store import Sample, write_shards
from tests.training.privacy_records import round_record, settings_with, write_method
from tests.training.small_federation import sample_for
from tests.training.small_models import small_backbone
from training.model.autoencoders.small import SmallVae
from training.model.frozen.rulers import IdentityRuler
from training.settings import AdapterSettings, FederationSettings, TrainingSettings, VaeSettings

CLIENTS, STRANGERS = [f"c{i}" for i in range(5)], [f"u{i}" for i in range(5)]
LEARNING = FederationSettings(rounds=2, local_steps=20, batch_size=1, learning_rate=1e-2, score_frames=2, score_steps=1)
TRAINING = TrainingSettings(federation=LEARNING, adapter=AdapterSettings(rank=8))


def noise_for(person: str, number: int, split: str) -> Sample:
    """A clip whose pictures follow from nothing: it can only be known by heart."""
    seed = 100 * (CLIENTS + STRANGERS).index(person) + number
    sample = sample_for("c0", seed, split)
    latents = np.random.default_rng(seed).normal(size=sample.latents.shape).astype(np.float16)
    return replace(sample, key=f"{person}_{number}", client=person, clip_id=f"{person}/{number}", latents=latents)


def make_run(root: Path) -> RunFolder:
    """Five clients and five strangers, one clip each that counts, frozen networks, and a report of `fedavg`."""
    run = RunFolder(root)
    table = {}
    for person in CLIENTS + STRANGERS:
        role: Role = "client" if person in CLIENTS else "unseen"
        splits = ["train", "validation", "test"] if role == "client" else ["test"]
        write_shards(run.client(person), [noise_for(person, i, split) for i, split in enumerate(splits)])
        table[person] = Client(role, person, {"train": [], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    record_rendered(run)
    small_backbone().save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    write_method(run, "fedavg", settings_with(mode="none", secure_aggregation=False), [round_record(1)])
    return run


def federated(run: RunFolder, tmp_path: Path, method: str | None = "fedavg") -> Trained:
    federation = Federation(method, TRAINING, seed=1, personal_steps=1)
    with scratch_run(run, tmp_path / "scratch", federation) as scratch:
        return train(scratch, federation)


def release(run: RunFolder, trained: Trained) -> None:
    trained.trainer.adapter.save(run.adapter("fedavg"), trained.shared[max(trained.shared)], {"privacy": "x"})
