"""The small autoencoder of the demo: 128 x 128 frames to 16 x 16 latents, trained from scratch in a minute.

A pretrained one replaces it where weights are available (`training.model.autoencoders`, `training.vae.source`).
Pixel-unshuffling by four at the input keeps all convolutions at or below a quarter of the resolution, so it is fast on
a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.progress import track
from training.model.autoencoders.base import Autoencoder, to_pixels
from training.model.device import autocast, deterministic
from training.model.halves import Part, generator_of, open_gradients, picked
from training.model.saving import save_network
from training.settings import VaeSettings


class ResidualBlock(nn.Module):
    """norm, SiLU, 3 x 3 convolution, twice, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SmallVae(Autoencoder):
    """Frames [N, 3, H, W] in [0, 1] to latents [N, C, H/8, W/8] of about zero mean and unit deviation."""

    downscale = 8
    pixels_a_batch = 64 * 128 * 128

    def __init__(self, settings: VaeSettings) -> None:
        super().__init__()
        self.settings = settings
        quarter, eighth = settings.widths
        channels = settings.latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, quarter, 3, padding=1),
            *[ResidualBlock(quarter) for _ in range(settings.blocks)],
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            *[ResidualBlock(eighth) for _ in range(settings.blocks)],
            nn.Conv2d(eighth, channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, eighth, 3, padding=1),
            *[ResidualBlock(eighth) for _ in range(settings.blocks)],
            nn.Conv2d(eighth, quarter * 4, 3, padding=1),
            nn.PixelShuffle(2),
            *[ResidualBlock(quarter) for _ in range(settings.blocks)],
            nn.Conv2d(quarter, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )
        self.register_statistics(channels)

    def encode_raw(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels)

    def decode_raw(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)

    def save(self, folder: Path) -> None:
        save_network(self, folder, self.settings.model_dump_json(indent=2) + "\n")


def reconstruction_loss(predicted: Tensor, target: Tensor, weight: Tensor, edge_weight: float) -> Tensor:
    """Weighted L1 of pixels plus L1 of their horizontal and vertical differences.

    The differences preserve edges such as eyelids and teeth, which plain L1 sacrifices for smooth skin.
    predicted, target [N, 3, H, W] in [0, 1]; weight [N, 1, H, W].
    """
    loss = (weight * (predicted - target).abs()).mean()
    if edge_weight > 0:
        error = predicted - target
        across = (weight[..., 1:] * (error[..., 1:] - error[..., :-1]).abs()).mean()
        down = (weight[..., 1:, :] * (error[..., 1:, :] - error[..., :-1, :]).abs()).mean()
        loss = loss + edge_weight * (across + down)
    return loss


def train_vae(
    frames: npt.NDArray[np.uint8],
    features: npt.NDArray[np.bool_],
    settings: VaeSettings,
    seed: int,
    device: torch.device | None = None,
    workers: int = 1,
) -> SmallVae:
    """An autoencoder trained on public crops; it does not depend on `workers`, see `training.model.halves`.

    frames: uint8 [N, H, W, 3]; features: bool [N, H/8, W/8], true on mouth and eyes, weighted more.
    """
    device = device or torch.device("cpu")
    with deterministic(seed):
        model = SmallVae(settings).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.15
    )
    model.train()
    with open_gradients(model, partial(_loss, settings), workers, device) as gradients:
        for step, index in enumerate(track(_batches(len(frames), settings, seed), "autoencoder", settings.steps)):
            gradients(len(index), picked(index, (seed, step), frames=frames, features=features))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            decay = min(0.995, (1 + step) / (10 + step))
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        model.load_state_dict(average)
        model.standardise(frames)
    return model.eval().requires_grad_(False)


def _loss(settings: VaeSettings, model: nn.Module, part: Part) -> Tensor:
    """The reconstruction loss of augmented pictures; noise on their latents is in units of the part's deviation."""
    assert isinstance(model, SmallVae)
    device, generator = next(model.parameters()).device, generator_of(part)
    target = augment(to_pixels(part["frames"]), generator).to(device)
    weight = 1 + (settings.feature_weight - 1) * torch.from_numpy(part["features"]).float()
    weight = F.interpolate(weight[:, None], scale_factor=8.0, mode="bilinear").to(device)
    with autocast(device):
        latents = model.encoder(target * 2 - 1)
        scale = latents.detach().float().std(dim=(0, 2, 3), keepdim=True)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        predicted = model.decoder(latents + settings.latent_noise * scale * noise).float() * 0.5 + 0.5
    return reconstruction_loss(predicted, target, weight, settings.edge_weight)


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Random gain and tint of each frame [N, 3, H, W], so that the network generalises to unseen skin and light."""
    n = len(pixels)
    gain = 1 + 0.15 * (torch.rand(n, 1, 1, 1, generator=generator) * 2 - 1)
    tint = 1 + 0.15 * (torch.rand(n, 3, 1, 1, generator=generator) * 2 - 1)
    return (pixels * gain * tint).clamp(0, 1)


def _batches(count: int, settings: VaeSettings, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    rng = np.random.default_rng([seed, 1])
    for _ in range(settings.steps):
        yield rng.integers(0, count, settings.batch_size)
