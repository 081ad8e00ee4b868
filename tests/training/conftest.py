"""Small models and clips for the training tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from preparation.folders import RunFolder
from preparation.shards import write_shards
from training.backbone.tiny import BackboneShape, TinyBackbone
from training.client import ClientTrainer
from training.data import Batch, ClipTensors
from training.homes import Homes
from training.rulers import IdentityRuler
from training.settings import BackboneSettings, TrainingSettings, VaeSettings
from training.vae import SmallVae

SHAPE = BackboneShape(latent_channels=4, latent_size=8, speech_steps=6, speech_dim=10, motion_dim=12)


def make_clip(seed: int, frames: int = 20, shape: BackboneShape = SHAPE) -> ClipTensors:
    """A random clip whose latents follow its speech, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    size = shape.latent_size
    speech = torch.randn(frames, shape.speech_steps, shape.speech_dim, generator=generator)
    reference = torch.randn(shape.latent_channels, size, size, generator=generator)
    opening = speech.mean((1, 2))[:, None, None, None]
    mouth = torch.zeros(frames, size, size)
    mouth[:, size // 2 + 1 : -1, 2:-2] = 1
    return ClipTensors(
        clip_id=f"speaker/{seed}",
        latents=reference + 3 * opening * mouth[:, None],
        speech=speech,
        reference=reference,
        motion=torch.randn(frames, shape.motion_dim, generator=generator) * 0.1,
        lips=torch.cat([opening.view(-1, 1), -opening.view(-1, 1)], 1),
        mouth=mouth,
        eyes=torch.zeros(frames, size, size),
    )


@pytest.fixture
def backbone() -> TinyBackbone:
    """A small backbone whose zero-initialised layers are given weights, so that every path matters."""
    torch.manual_seed(0)
    model = TinyBackbone(BackboneSettings(width=32, depth=2, heads=2, window=6), SHAPE)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.fixture
def batch() -> Batch:
    clips = [make_clip(seed) for seed in range(3)]
    fields = ("latents", "speech", "motion", "mouth", "eyes")
    cut = {name: torch.stack([getattr(clip, name)[:6] for clip in clips]) for name in fields}
    return Batch(reference=torch.stack([clip.reference for clip in clips]), **cut)


@pytest.fixture
def trainer_for(tmp_path: Path, backbone: TinyBackbone):  # type: ignore[no-untyped-def]
    """A function that opens a trainer on three clients of one, two and three clips."""
    from tests.training.small_federation import CLIENTS, sample_for

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
        return ClientTrainer(
            Homes(run, method, tuple(pool)), TinyBackbone.load(run.model("backbone")), vae, ruler, settings, seed=5
        )

    return build
