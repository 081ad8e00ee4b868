"""Personalisation as a run has it: through the pool of workers, saved by client, and evaluated by client."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.folders import RunFolder
from evaluation.measuring.models import client_losses, has_personal, open_model
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for, save_public, whole_settings
from tests.training.small_models import small_backbone
from training.model.backbones.tiny import TinyBackbone
from training.pipeline import federate


@pytest.fixture
def backbone() -> TinyBackbone:
    return small_backbone()


@pytest.fixture
def run(tmp_path: Path, backbone: TinyBackbone) -> RunFolder:
    """Three clients of two training clips, and a public speaker who is held out."""
    run = RunFolder(tmp_path)
    table = save_public(run, backbone)
    for client in CLIENTS:
        splits = ["train", "train", "validation", "test"]
        write_shards(run.client(client), [sample_for(client, i, split) for i, split in enumerate(splits)])
        table[client] = Client("client", client, {"train": [], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    save_clients(table, run.people_table)
    return run


@pytest.mark.slow(minutes=0.2)
def test_personal_adapters_are_made_by_workers_and_serve_their_clients(run: RunFolder) -> None:
    settings = whole_settings()
    federation = settings.federation.model_copy(update={"rounds": 1, "personalisation_steps": 8})
    personal = settings.model_copy(update={"federation": federation})
    objective = settings.objective

    def losses(name: str) -> dict[str, float]:
        denoiser_of = open_model(run, name, settings, seed=0).denoiser
        assert denoiser_of is not None
        return client_losses(run, denoiser_of, objective, seed=0, split="train", required=False)

    shared = settings.model_copy(update={"federation": federation.model_copy(update={"personalisation_steps": 0})})
    theta = federate(run, "fedavg", shared, seed=0, resume=False).theta
    by_shared = losses("fedavg")
    assert (federate(run, "fedavg", personal, seed=0, resume=True).theta == theta).all()
    assert all((run.client_adapter(client, "fedavg") / "adapter_model.safetensors").exists() for client in CLIENTS)
    by_own = losses("fedavg_personal")
    assert losses("fedavg") == by_shared
    # On the clips that it was fitted to, a client's own adapter is better than everybody's.
    assert all(by_own[client] < by_shared[client] for client in CLIENTS)
    assert has_personal(run, "fedavg")
    # Without personalisation what an earlier run left is taken away.
    federate(run, "fedavg", shared, seed=0, resume=True)
    assert not has_personal(run, "fedavg")
