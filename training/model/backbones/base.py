"""A video transformer for one GPU, of about 124 million parameters, trained from scratch on the public split.

A block attends over a frame's patches, with the frame's speech tokens as additional keys, then over the frames at each
patch, then runs an MLP. Time, speech, motion and identity modulate it per frame: shift, scale and gate come from one
projection for all blocks and a small table in each (PixArt-alpha, Chen et al. 2024). Both are zero at first, so a new
block is the identity. Attention is torch's fused kernel; queries and keys are normalised (Dehghani et al. 2023), so
that bfloat16 is stable, and positions of frames are rotary (Su et al. 2021), which has no longest window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from common.errors import PrivFedTalkError
from training.model.backbones.conditions import SpeechEncoder, from_patches, timestep_embedding, to_patches
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.device import at_least_float32, narrowed
from training.settings import BackboneSettings

TIME_WIDTH = 256
"""Width of the timestep's sinusoidal embedding."""


class Attention(nn.Module):
    """Multi-head attention of queries [N, Q, d] over [N, K, d]; `turns` are rotary positions of consecutive frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head = width // heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.scale_q, self.scale_k = (nn.Parameter(torch.ones(self.head)) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor, turns: Tensor | None = None) -> Tensor:
        n, queries, width = x.shape
        q = self._normalised(self.to_q(x), self.scale_q)
        k = self._normalised(self.to_k(context), self.scale_k)
        v = self._heads(self.to_v(context))
        if turns is not None:
            cos, sin = turns.to(q.dtype)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(attended.transpose(1, 2).reshape(n, queries, width))

    def _normalised(self, x: Tensor, scale: Tensor) -> Tensor:
        # Scales in the input's precision: with mixed precisions the fused kernel would not be used.
        return F.rms_norm(self._heads(x), (self.head,), scale.to(x.dtype)).to(x.dtype)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head)).transpose(1, 2)


def turns_of(frames: int, head: int, device: torch.device) -> Tensor:
    """Rotary positions: cosines and sines [2, F, head / 2] of the angles f / 10000**(2 i / head) of frame f."""
    half = head // 2
    speed = 10000.0 ** (-torch.arange(half, device=device) / half)
    angle = torch.arange(frames, device=device)[:, None] * speed
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [N, heads, F, d] with its pairs (i, i + d/2) rotated by the angles of `turns_of`."""
    one, two = x.chunk(2, -1)
    return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)


class Block(nn.Module):
    """Attention over space with speech, attention over time, and an MLP; each modulated by the frame's condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(3)])
        self.space = Attention(width, heads)
        self.time = Attention(width, heads)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.table = nn.Parameter(torch.zeros(9, width))

    def forward(self, x: Tensor, tokens: Tensor, modulation: Tensor, turns: Tensor) -> Tensor:
        """x [B, F, P, d] patches; tokens [B, F, K, d] speech and identity; modulation [B, F, 9, d]; see `turns_of`."""
        b, f, p, d = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = (
            (modulation + self.table)[:, :, None].to(x.dtype).unbind(3)
        )
        h = narrowed(self.norms[0](x) * (1 + scale1) + shift1)
        context = torch.cat([h, tokens.to(h.dtype)], 2)
        attended = self.space(h.reshape(b * f, p, d), context.reshape(b * f, -1, d))
        x = x + gate1 * attended.view(b, f, p, d)
        h = narrowed(self.norms[1](x) * (1 + scale2) + shift2).transpose(1, 2).reshape(b * p, f, d)
        x = x + gate2 * self.time(h, h, turns).view(b, p, f, d).transpose(1, 2)
        h = self.norms[2](x) * (1 + scale3) + shift3
        return x + gate3 * self.down(F.gelu(self.up(h), approximate="tanh"))


class BaseBackbone(Backbone):
    """Choose it for real faces where no pretrained weights may or can be used, with latents of 32 x 32 or less."""

    attention_targets = ("to_q", "to_k", "to_v", "to_out")
    other_targets = (
        "up",
        "down",
        "modulation",
        "modulation_out",
        "speech_projection",
        "speech_tokens",
        "patch_in",
        "patch_out",
    )
    speech_encoder: SpeechEncoder

    def __init__(self, settings: BackboneSettings, shape: BackboneShape) -> None:
        super().__init__(settings, shape)
        size = settings.base
        if shape.latent_size % size.patch:
            raise PrivFedTalkError(
                f"latents of {shape.latent_size} cells have no whole number of patches of {size.patch}",
                remedy="set training.backbone.base.patch, or preparation.crops.size, so that they do",
            )
        width, features = size.width, shape.latent_channels * size.patch**2
        self.patch_in = nn.Linear(2 * features, width)
        self.place = nn.Parameter(torch.randn(1, 1, (shape.latent_size // size.patch) ** 2, width) * 0.02)
        self.time_mlp = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.speech_encoder = SpeechEncoder(shape.speech_steps, shape.speech_dim, width)
        self.speech_projection = nn.Linear(width, width)
        self.speech_tokens = nn.Linear(shape.speech_dim, width)
        self.speech_place = nn.Parameter(torch.randn(shape.speech_steps, width) * 0.02)
        self.motion_projection = nn.Linear(shape.motion_dim, width)
        self.identity_projection = nn.Linear(features, width)
        self.token_norm = nn.LayerNorm(width)
        self.modulation = nn.Linear(width, 9 * width)
        self.blocks = nn.ModuleList([Block(width, size.heads) for _ in range(size.depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, features)
        for layer in (self.modulation, self.modulation_out, self.patch_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def compile_blocks(self) -> None:
        for block in self.blocks:
            block.compile(dynamic=False)

    def forward(self, z_t: Tensor, t: Tensor, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        f, patch = z_t.shape[1], self.settings.base.patch
        still = to_patches(reference[:, None], patch)
        x = self.patch_in(torch.cat([to_patches(z_t, patch), still.expand(-1, f, -1, -1)], -1)) + self.place
        identity = self.identity_projection(still.mean(2))
        heard = self.speech_projection(F.silu(self.speech_encoder(speech)))
        moved = self.motion_projection((motion / self.motion_std).clamp(-4, 4))
        now = self.time_mlp(timestep_embedding(t, TIME_WIDTH).to(self.place.dtype))
        condition = F.silu(now[:, None] + heard + moved + identity)
        spoken = self.speech_tokens(speech) + self.speech_place
        tokens = narrowed(self.token_norm(torch.cat([spoken, identity[:, :, None].expand(-1, f, -1, -1)], 2)))
        modulation = self.modulation(condition).unflatten(-1, (9, -1))
        # Computed once for all blocks: kernel launches bound a short window on a GPU, and these were a tenth of them.
        turns = turns_of(f, x.shape[-1] // self.settings.base.heads, x.device)
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, tokens, modulation, turns, use_reentrant=False)
            else:
                x = block(x, tokens, modulation, turns)
        shift, scale = self.modulation_out(condition)[:, :, None].chunk(2, -1)
        return at_least_float32(from_patches(self.patch_out(self.norm_out(x) * (1 + scale) + shift), patch))
