"""The small autoencoder of the demo: 128 x 128 frames to 16 x 16 latents, trained from nothing in a minute.

A pretrained VAE replaces it where weights are at hand; both answer the same four calls (`encode`, `decode`,
`save`, `load`). Pixel-unshuffling by four at the input keeps all convolutions at or below a quarter of the
resolution, which is what makes it quick on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from preparation.progress import track
from training.device import autocast, deterministic
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


class SmallVae(nn.Module):
    """Frames [N, 3, H, W] in [0, 1] to latents [N, C, H/8, W/8] of about zero mean and unit deviation."""

    downscale = 8

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
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, channels, 1, 1))

    def encode(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> latents [N, C, H/8, W/8], standardised per channel."""
        return (self.encoder(frames * 2 - 1).float() - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [N, C, h, w] -> frames [N, 3, 8h, 8w]; not clamped, so that losses keep their gradients."""
        return self.decoder(latents * self.latent_std + self.latent_mean).float() * 0.5 + 0.5

    @torch.inference_mode()
    def encode_frames(self, frames: npt.NDArray[np.uint8], batch: int = 48) -> npt.NDArray[np.float32]:
        """uint8 [T, H, W, 3] -> float32 latents [T, C, H/8, W/8]."""
        device = self.latent_mean.device
        parts = []
        for start in range(0, len(frames), batch):
            with autocast(device):
                pixels = to_pixels(frames[start : start + batch]).to(device)
                parts.append(self.encode(pixels).float().cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def decode_latents(self, latents: Tensor, batch: int = 48) -> npt.NDArray[np.uint8]:
        """Latents [T, C, h, w] -> uint8 [T, 8h, 8w, 3]."""
        device = self.latent_mean.device
        parts = []
        for start in range(0, len(latents), batch):
            with autocast(device):
                parts.append(to_uint8(self.decode(latents[start : start + batch].to(device))))
        return np.concatenate(parts)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(self.settings.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> SmallVae:
        """Read what `save` wrote, ready for inference."""
        settings = VaeSettings(**json.loads((folder / "config.json").read_text()))
        model = cls(settings)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval().requires_grad_(False)


def to_pixels(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [0, 1], channels last in memory."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255.0


def to_uint8(pixels: Tensor) -> npt.NDArray[np.uint8]:
    """float [N, 3, H, W] -> uint8 [N, H, W, 3]."""
    rounded = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def reconstruction_loss(predicted: Tensor, target: Tensor, weight: Tensor, edge_weight: float) -> Tensor:
    """Weighted L1 of pixels plus L1 of their horizontal and vertical differences.

    The differences are what an eyelid or a tooth consists of; plain L1 trades them for smooth skin.
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
) -> SmallVae:
    """Train on public crops.

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
        for step, index in enumerate(track(_batches(len(frames), settings, seed), "autoencoder", settings.steps)):
            target = augment(to_pixels(frames[index]), index_seed=int(index[0]) + step).to(device)
            weight = 1 + (settings.feature_weight - 1) * torch.from_numpy(features[index]).float()
            weight = F.interpolate(weight[:, None], scale_factor=8.0, mode="bilinear").to(device)
            with autocast(device):
                latents = model.encoder(target * 2 - 1)
                scale = latents.detach().float().std(dim=(0, 2, 3), keepdim=True)
                latents = latents + settings.latent_noise * scale * torch.randn_like(latents)
                predicted = model.decoder(latents).float() * 0.5 + 0.5
            loss = reconstruction_loss(predicted, target, weight, settings.edge_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            decay = min(0.995, (1 + step) / (10 + step))
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        model.load_state_dict(average)
        _standardise(model, frames[:: max(1, len(frames) // 512)], device)
    return model.eval().requires_grad_(False)


def augment(pixels: Tensor, index_seed: int) -> Tensor:
    """Random mirror, gain and tint a frame, so that unseen skin, lips and light are not foreign. [N, 3, H, W]."""
    generator = torch.Generator().manual_seed(index_seed)
    n = len(pixels)
    gain = 1 + 0.15 * (torch.rand(n, 1, 1, 1, generator=generator) * 2 - 1)
    tint = 1 + 0.15 * (torch.rand(n, 3, 1, 1, generator=generator) * 2 - 1)
    return (pixels * gain * tint).clamp(0, 1)


def _batches(count: int, settings: VaeSettings, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    rng = np.random.default_rng([seed, 1])
    for _ in range(settings.steps):
        yield rng.integers(0, count, settings.batch_size)


@torch.inference_mode()
def _standardise(model: SmallVae, frames: npt.NDArray[np.uint8], device: torch.device) -> None:
    """Measure the latents' mean and deviation so that diffusion sees unit variance."""
    parts = []
    for start in range(0, len(frames), 64):
        with autocast(device):
            parts.append(model.encoder(to_pixels(frames[start : start + 64]).to(device) * 2 - 1).float())
    latents = torch.cat(parts)
    model.latent_mean.copy_(latents.mean(dim=(0, 2, 3), keepdim=True))
    model.latent_std.copy_(latents.std(dim=(0, 2, 3), keepdim=True))
