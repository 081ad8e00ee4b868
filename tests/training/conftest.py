"""Small models and clips for the training tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from common.folders import RunFolder
from evaluation.results.card import card_figures
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, TrainerFor, sample_for
from tests.training.small_models import make_clip, small_backbone
from training.adapters.folders import export_adapter
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer
from training.model.autoencoders.small import SmallVae
from training.model.backbones.tiny import TinyBackbone
from training.model.data import Batch
from training.model.frozen.rulers import IdentityRuler
from training.settings import TrainingSettings, VaeSettings


@pytest.fixture
def backbone() -> TinyBackbone:
    return small_backbone()


@pytest.fixture
def foreign(run: RunFolder, tmp_path: Path) -> Path:
    """The folder of an adapter that was exported from the test's `run`."""
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "foreign", card_figures)
    return tmp_path / "foreign"


@pytest.fixture
def batch() -> Batch:
    clips = [make_clip(seed) for seed in range(3)]
    fields = ("latents", "speech", "motion", "mouth", "eyes")
    cut = {name: torch.stack([getattr(clip, name)[:6] for clip in clips]) for name in fields}
    return Batch(reference=torch.stack([clip.reference for clip in clips]), **cut)


@pytest.fixture
def trainer_for(tmp_path: Path, backbone: TinyBackbone) -> TrainerFor:
    """A function that opens a trainer on three clients of one, two and three clips."""
    run = RunFolder(tmp_path / "run")
    for number, client in enumerate(CLIENTS):
        splits = ["train"] * (number + 1) + ["validation", "test"]
        write_shards(run.client(client), [sample_for(client, i, split) for i, split in enumerate(splits)])
    backbone.save(run.model("backbone"))
    vae = SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).eval()
    vae.save(run.model("vae"))
    ruler = IdentityRuler(width=8, embedding=8).frozen()
    ruler.save(run.model("rulers") / "identity")

    def build(settings: TrainingSettings, method: str = "privfedtalk", pool: Sequence[str] = ()) -> ClientTrainer:
        storage = ClientStorage(run, method, tuple(pool))
        return ClientTrainer(storage, TinyBackbone.load(run.model("backbone")), vae, ruler, settings, seed=5)

    return build
