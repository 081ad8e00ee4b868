"""Layers for conditions and input that several kinds of backbone share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpeechEncoder(nn.Module):
    """A window of speech features [.., S, D] around a frame -> one vector [.., width]."""

    def __init__(self, steps: int, dim: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(dim, 48)
        self.mix = nn.Linear(48 * steps, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, speech: Tensor, dropout: float = 0.0) -> Tensor:
        """`dropout` is the share of hidden values that are dropped, in the encoder's own pretraining."""
        hidden = _dropped(F.silu(self.reduce(speech)), dropout).flatten(-2)
        return self.out(_dropped(F.silu(self.mix(hidden)), dropout))


def _dropped(hidden: Tensor, share: float) -> Tensor:
    return F.dropout(hidden, share) if share else hidden


def timestep_embedding(t: Tensor, width: int = 64) -> Tensor:
    """Sinusoids of the timestep, [B] -> [B, width]."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def to_patches(z: Tensor, patch: int) -> Tensor:
    """[B, F, C, h, w] -> [B, F, P, C * patch**2], P patches row by row."""
    b, f, c, h, w = z.shape
    grid = z.view(b, f, c, h // patch, patch, w // patch, patch).permute(0, 1, 3, 5, 2, 4, 6)
    return grid.reshape(b, f, (h // patch) * (w // patch), -1)


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of `to_patches`, for square latents."""
    b, f, places, features = x.shape
    side, c = math.isqrt(places), features // patch**2
    grid = x.view(b, f, side, side, c, patch, patch).permute(0, 1, 4, 2, 5, 3, 6)
    return grid.reshape(b, f, c, side * patch, side * patch)
