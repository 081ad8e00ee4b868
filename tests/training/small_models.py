"""Small models and random clips, for the tests of any floor that trains."""

from __future__ import annotations

import torch

from training.model.backbones.interface import BackboneShape
from training.model.backbones.tiny import TinyBackbone
from training.model.data import ClipTensors
from training.settings import BackboneSettings

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


def small_backbone() -> TinyBackbone:
    """A small backbone whose zero-initialised layers are given weights, so that every path matters."""
    torch.manual_seed(0)
    model = TinyBackbone(BackboneSettings(width=32, depth=2, heads=2, window=6), SHAPE)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()
