"""The demo's denoiser: a factorised video transformer of about a million parameters.

Each block attends over the patches of a frame (with speech and identity tokens as extra keys), then over the
frames of a patch, then mixes neighbours by a depthwise convolution, then runs an MLP; time, speech, motion and
identity modulate it per frame (adaptive layer norm, Peebles and Xie 2023). Attention is written as explicit
matrix products: on the short sequences here the fused kernel is the slower one on a CPU.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from preparation.settings_base import Settings
from training.device import at_least_float32
from training.settings import BackboneSettings


class BackboneShape(Settings):
    """What the data decides about a backbone."""

    latent_channels: int
    latent_size: int
    speech_steps: int
    speech_dim: int
    motion_dim: int


class SpeechEncoder(nn.Module):
    """A window of log-mel [.., S, D] around a frame -> one vector [.., width]."""

    def __init__(self, shape: BackboneShape, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(shape.speech_dim, 48)
        self.mix = nn.Linear(48 * shape.speech_steps, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, speech: Tensor) -> Tensor:
        hidden = F.silu(self.reduce(speech)).flatten(-2)
        return self.out(F.silu(self.mix(hidden)))


class Attention(nn.Module):
    """Multi-head attention of queries [N, Q, d] over [N, K, d], with an optional additive bias [heads, Q, K]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        n, queries, width = x.shape
        head = width // self.heads
        q = self.to_q(x).view(n, queries, self.heads, head).transpose(1, 2)
        k = self.to_k(context).view(n, -1, self.heads, head).permute(0, 2, 3, 1)
        v = self.to_v(context).view(n, -1, self.heads, head).transpose(1, 2)
        scores = (q @ k) * head**-0.5
        if bias is not None:
            scores = scores + bias
        return self.to_out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, queries, width))


class Block(nn.Module):
    """Space, time, neighbours, channels; each modulated by the frame's conditioning."""

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        width = settings.width
        self.window = settings.window
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(3)])
        self.space = Attention(width, settings.heads)
        self.time = Attention(width, settings.heads)
        self.time_bias = nn.Parameter(torch.zeros(settings.heads, 2 * settings.window - 1))
        self.neighbours = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.neighbours.weight)
        nn.init.zeros_(self.time.to_out.weight)

    def forward(self, x: Tensor, tokens: Tensor, condition: Tensor) -> Tensor:
        """x [B, F, P, d] patches; tokens [B, F, K, d] speech and identity; condition [B, F, d]."""
        b, f, p, d = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition))[:, :, None].chunk(6, -1)
        h = self.norms[0](x) * (1 + scale1) + shift1
        context = torch.cat([h, tokens], dim=2)
        attended = self.space(h.reshape(b * f, p, d), context.reshape(b * f, -1, d))
        x = x + (1 + gate1) * attended.view(b, f, p, d)
        h = self.norms[1](x).transpose(1, 2).reshape(b * p, f, d)
        x = x + self.time(h, h, self._relative_bias(f)).view(b, p, f, d).transpose(1, 2)
        side = math.isqrt(p)
        grid = x.reshape(b * f, side, side, d).permute(0, 3, 1, 2)
        x = x + self.neighbours(grid).permute(0, 2, 3, 1).reshape(b, f, p, d)
        h = self.norms[2](x) * (1 + scale2) + shift2
        return x + (1 + gate2) * self.down(F.gelu(self.up(h), approximate="tanh"))

    def _relative_bias(self, frames: int) -> Tensor:
        """[heads, F, F] bias by the distance of two frames."""
        place = torch.arange(frames, device=self.time_bias.device)
        distance = (place[None, :] - place[:, None]).clamp(1 - self.window, self.window - 1)
        return self.time_bias[:, distance + self.window - 1]


class TinyBackbone(nn.Module):
    """Velocity of the residual to the reference latent."""

    def __init__(self, settings: BackboneSettings, shape: BackboneShape) -> None:
        super().__init__()
        self.settings, self.shape = settings, shape
        width, patch = settings.width, settings.patch
        self.side = shape.latent_size // patch
        features = shape.latent_channels * patch * patch
        self.patch_in = nn.Linear(2 * features, width)
        self.place = nn.Parameter(torch.randn(1, 1, self.side**2, width) * 0.02)
        self.time_mlp = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.speech_encoder = SpeechEncoder(shape, width)
        self.speech_projection = nn.Linear(width, width * (1 + settings.speech_tokens))
        self.motion_projection = nn.Linear(shape.motion_dim, width)
        self.identity_projection = nn.Linear(features, width)
        self.blocks = nn.ModuleList([Block(settings) for _ in range(settings.depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, features)
        nn.init.zeros_(self.patch_out.weight)
        nn.init.zeros_(self.patch_out.bias)
        self.residual_std: Tensor
        self.register_buffer("residual_std", torch.ones(1, 1, shape.latent_channels, 1, 1))
        self.motion_std: Tensor
        self.register_buffer("motion_std", torch.ones(shape.motion_dim))

    def forward(self, z_t: Tensor, t: Tensor, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        """z_t [B, F, C, h, w] noisy residual in units of `residual_std`; t [B]; speech [B, F, S, D];
        reference [B, C, h, w] latent; motion [B, F, M] of each frame relative to the reference.
        Returns v [B, F, C, h, w].
        """
        b, f = z_t.shape[:2]
        noisy = self._patches(z_t)
        still = self._patches(reference[:, None])
        x = self.patch_in(torch.cat([noisy, still.expand(-1, f, -1, -1)], -1)) + self.place
        heard = self.speech_projection(F.silu(self.speech_encoder(speech)))
        heard, speech_tokens = heard[..., : x.shape[-1]], heard[..., x.shape[-1] :]
        identity = self.identity_projection(still.mean(2))
        moved = self.motion_projection((motion / self.motion_std).clamp(-4, 4))
        condition = self.time_mlp(timestep_embedding(t).to(self.place.dtype))[:, None] + heard + moved + identity
        tokens = torch.cat([speech_tokens.view(b, f, -1, x.shape[-1]), identity[:, :, None].expand(-1, f, -1, -1)], 2)
        for block in self.blocks:
            x = block(x, tokens, condition)
        shift, scale = self.modulation_out(F.silu(condition))[:, :, None].chunk(2, -1)
        return at_least_float32(self._unpatch(self.patch_out(self.norm_out(x) * (1 + scale) + shift)))

    def _patches(self, z: Tensor) -> Tensor:
        """[B, F, C, h, w] -> [B, F, P, C * patch**2]."""
        b, f, c, _, _ = z.shape
        patch, side = self.settings.patch, self.side
        return z.view(b, f, c, side, patch, side, patch).permute(0, 1, 3, 5, 2, 4, 6).reshape(b, f, side * side, -1)

    def _unpatch(self, x: Tensor) -> Tensor:
        """The inverse of `_patches`."""
        b, f, _, _ = x.shape
        patch, side, c = self.settings.patch, self.side, self.shape.latent_channels
        grid = x.view(b, f, side, side, c, patch, patch).permute(0, 1, 4, 2, 5, 3, 6)
        return grid.reshape(b, f, c, side * patch, side * patch)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / "model.safetensors")
        config = {"settings": self.settings.model_dump(), "shape": self.shape.model_dump()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> TinyBackbone:
        """Read what `save` wrote; frozen, as the federation needs it."""
        config = json.loads((folder / "config.json").read_text())
        model = cls(BackboneSettings(**config["settings"]), BackboneShape(**config["shape"]))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval().requires_grad_(False)


def timestep_embedding(t: Tensor, width: int = 64) -> Tensor:
    """Sinusoids of the timestep, [B] -> [B, width]."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)
