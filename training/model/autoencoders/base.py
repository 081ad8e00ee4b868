"""The interface of every autoencoder: frames to latents of about unit scale, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.errors import PrivFedTalkError
from common.workers import stop_if_asked
from training.model.device import autocast


class Autoencoder(nn.Module, ABC):
    """Frames [N, 3, H, W] in [0, 1] to latents [N, C, H/d, W/d] of about zero mean and unit deviation.

    Subclasses provide the raw encoder and decoder and the saving. The mean and deviation of each channel are measured
    once on public frames (`standardise`), so that diffusion sees unit variance for every network.
    """

    downscale: int
    latent_channels: int
    pixels_a_batch: int
    """The most pixels that are coded at once; this bounds the memory for frames of any size."""

    latent_mean: Tensor
    latent_std: Tensor

    def register_statistics(self, channels: int) -> None:
        """Register buffers for the latents' mean and deviation of each channel, initially 0 and 1."""
        self.latent_channels = channels
        self.register_buffer("latent_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, channels, 1, 1))

    @abstractmethod
    def encode_raw(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the network's own latents; if it predicts a distribution, its mode."""

    @abstractmethod
    def decode_raw(self, latents: Tensor) -> Tensor:
        """The network's own latents -> [N, 3, H, W] in about [-1, 1]."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`, from which `load_autoencoder` makes the same network."""

    def encode(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> latents [N, C, H/d, W/d], standardised per channel."""
        return (self.encode_raw(frames * 2 - 1).float() - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [N, C, h, w] -> frames [N, 3, d h, d w]; not clamped, so that losses keep their gradients."""
        return self.decode_raw(latents * self.latent_std + self.latent_mean).float() * 0.5 + 0.5

    @torch.inference_mode()
    def encode_frames(self, frames: npt.NDArray[np.uint8], batch: int = 48) -> npt.NDArray[np.float32]:
        """uint8 [T, H, W, 3] -> float32 latents [T, C, H/d, W/d], at most `batch` frames at a time."""
        self.check_size(frames.shape[1:3])
        device = self.latent_mean.device
        batch = min(batch, self._batch(frames.shape[1] * frames.shape[2]))
        parts = []
        for start in range(0, len(frames), batch):
            stop_if_asked()
            with autocast(device):
                pixels = to_pixels(frames[start : start + batch]).to(device)
                parts.append(self.encode(pixels).float().cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def decode_latents(self, latents: Tensor, batch: int = 48) -> npt.NDArray[np.uint8]:
        """Latents [T, C, h, w] -> uint8 [T, d h, d w, 3]."""
        device = self.latent_mean.device
        batch = min(batch, self._batch(latents.shape[2] * latents.shape[3] * self.downscale**2))
        parts = []
        for start in range(0, len(latents), batch):
            with autocast(device):
                parts.append(to_uint8(self.decode(latents[start : start + batch].to(device))))
        return np.concatenate(parts)

    @torch.inference_mode()
    def standardise(self, frames: npt.NDArray[np.uint8]) -> None:
        """Measure each channel's mean and deviation on frames uint8 [N, H, W, 3], about 512 of them."""
        self.check_size(frames.shape[1:3])
        device = self.latent_mean.device
        chosen = frames[:: max(1, len(frames) // 512)]
        batch = min(64, self._batch(frames.shape[1] * frames.shape[2]))
        parts = []
        for start in range(0, len(chosen), batch):
            with autocast(device):
                parts.append(self.encode_raw(to_pixels(chosen[start : start + batch]).to(device) * 2 - 1).float())
        latents = torch.cat(parts)
        self.latent_mean.copy_(latents.mean(dim=(0, 2, 3), keepdim=True))
        self.latent_std.copy_(latents.std(dim=(0, 2, 3), keepdim=True))

    def check_size(self, size: Sequence[int]) -> None:
        """Raise PrivFedTalkError if a side of the frames is not a multiple of `downscale`."""
        if any(side % self.downscale for side in size):
            below = size[0] // self.downscale * self.downscale
            raise PrivFedTalkError(
                f"crops of {' x '.join(map(str, size))} pixels do not fit an autoencoder that makes one cell of "
                f"{self.downscale} x {self.downscale} pixels",
                remedy=f"set preparation.crops.size to a multiple, such as {below or self.downscale}",
            )

    def _batch(self, pixels_a_frame: int) -> int:
        return max(1, self.pixels_a_batch // pixels_a_frame)


def to_pixels(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [0, 1], channels last in memory."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255.0


def to_uint8(pixels: Tensor) -> npt.NDArray[np.uint8]:
    """float [N, 3, H, W] -> uint8 [N, H, W, 3]."""
    rounded = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()
