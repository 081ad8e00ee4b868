"""The demo's denoiser: a factorised video transformer of about a million parameters.

Each block attends over the patches of a frame (with speech and identity tokens as extra keys), then over the
frames at each patch, then mixes neighbours by a depthwise convolution, then runs an MLP; time, speech, motion and
identity modulate it per frame (adaptive layer norm, Peebles and Xie 2023). Attention is written as explicit
matrix products: for the short sequences here the fused kernel is slower on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from training.model.backbones.conditions import SpeechEncoder, from_patches, timestep_embedding, to_patches
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.device import at_least_float32, narrowed
from training.settings import BackboneSettings


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
        k = self.to_k(context).view(n, -1, self.heads, head).transpose(1, 2)
        v = self.to_v(context).view(n, -1, self.heads, head).transpose(1, 2)
        # The keys' last two axes are swapped in a step of their own: from one permutation of all axes torch.compile
        # makes fused attention of the wrong tensor (pytorch/pytorch#195320).
        scores = (q @ k.transpose(-2, -1)) * head**-0.5
        if bias is not None:
            scores = scores + bias
        return self.to_out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, queries, width))


class Block(nn.Module):
    """Attention over space and over time, convolution over neighbours, and an MLP; modulated by the condition."""

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
        h = narrowed(self.norms[0](x) * (1 + scale1) + shift1)
        context = torch.cat([h, tokens.to(h.dtype)], dim=2)
        attended = self.space(h.reshape(b * f, p, d), context.reshape(b * f, -1, d))
        x = x + (1 + gate1) * attended.view(b, f, p, d)
        h = narrowed(self.norms[1](x)).transpose(1, 2).reshape(b * p, f, d)
        x = x + self.time(h, h, self._relative_bias(f)).view(b, p, f, d).transpose(1, 2)
        side = math.isqrt(p)
        grid = narrowed(x).reshape(b * f, side, side, d).permute(0, 3, 1, 2)
        x = x + self.neighbours(grid).permute(0, 2, 3, 1).reshape(b, f, p, d)
        h = self.norms[2](x) * (1 + scale2) + shift2
        return x + (1 + gate2) * self.down(F.gelu(self.up(h)))

    def _relative_bias(self, frames: int) -> Tensor:
        """The bias [heads, F, F] by the distance between two frames."""
        place = torch.arange(frames, device=self.time_bias.device)
        distance = (place[None, :] - place[:, None]).clamp(1 - self.window, self.window - 1)
        return self.time_bias[:, distance + self.window - 1]


class TinyBackbone(Backbone):
    """A few blocks of tiny width. Choose it for the rendered demo, where everything runs on a CPU in minutes."""

    attention_targets = ("to_q", "to_k", "to_v", "to_out")
    # Adapting the layers beyond attention teaches the mouth's shape, not only its timing.
    other_targets = ("up", "down", "modulation", "modulation_out", "speech_projection", "patch_in", "patch_out")
    speech_encoder: SpeechEncoder

    def __init__(self, settings: BackboneSettings, shape: BackboneShape) -> None:
        super().__init__(settings, shape)
        width, patch = settings.width, settings.patch
        side = shape.latent_size // patch
        features = shape.latent_channels * patch * patch
        self.patch_in = nn.Linear(2 * features, width)
        self.place = nn.Parameter(torch.randn(1, 1, side**2, width) * 0.02)
        self.time_mlp = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.speech_encoder = SpeechEncoder(shape.speech_steps, shape.speech_dim, width)
        self.speech_projection = nn.Linear(width, width * (1 + settings.speech_tokens))
        self.motion_projection = nn.Linear(shape.motion_dim, width)
        self.identity_projection = nn.Linear(features, width)
        self.blocks = nn.ModuleList([Block(settings) for _ in range(settings.depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, features)
        nn.init.zeros_(self.patch_out.weight)
        nn.init.zeros_(self.patch_out.bias)

    def forward(self, z_t: Tensor, t: Tensor, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        b, f = z_t.shape[:2]
        noisy = to_patches(z_t, self.settings.patch)
        still = to_patches(reference[:, None], self.settings.patch)
        x = self.patch_in(torch.cat([noisy, still.expand(-1, f, -1, -1)], -1)) + self.place
        heard = self.speech_projection(F.silu(self.speech_encoder(speech)))
        heard, speech_tokens = heard[..., : x.shape[-1]], heard[..., x.shape[-1] :]
        identity = self.identity_projection(still.mean(2))
        moved = self.motion_projection((motion / self.motion_std).clamp(-4, 4))
        condition = self.time_mlp(timestep_embedding(t).to(self.place.dtype))[:, None] + heard + moved + identity
        tokens = torch.cat([speech_tokens.view(b, f, -1, x.shape[-1]), identity[:, :, None].expand(-1, f, -1, -1)], 2)
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, tokens, condition, use_reentrant=False)
            else:
                x = block(x, tokens, condition)
        shift, scale = self.modulation_out(F.silu(condition))[:, :, None].chunk(2, -1)
        drawn = self.patch_out(self.norm_out(x) * (1 + scale) + shift)
        return at_least_float32(from_patches(drawn, self.settings.patch))
