"""Stable Diffusion's UNet for talking heads: with temporal layers, a reference as further input, and speech for text.

The network is diffusers' motion UNet (AnimateDiff, Guo et al. 2024). The reference's latent is additional input
channels (zero weights at first). In place of a prompt's tokens, each frame has its own speech tokens, one token for the
reference's identity and one for the head's motion. New temporal layers end in a zero projection, so an inflated network
first predicts for each frame what the UNet predicts for it (`training.model.backbones.inflation`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Self

import torch
from diffusers import Transformer2DModel, UNetMotionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from training.model.backbones.frame_attention import FrameAttention
from training.model.backbones.inflation import open_motion_unet, random_motion_unet
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.device import at_least_float32
from training.settings import BackboneSettings

IDENTITY_CELLS = 4
"""The identity token is computed from the reference's latent, averaged to 4 x 4 cells."""


class ConditionTokens(nn.Module):
    """Speech [B, F, S, D], reference [B, C, h, w] and motion [B, F, M] -> tokens [B, F, S + 2, width]."""

    def __init__(self, shape: BackboneShape, width: int) -> None:
        super().__init__()
        self.speech_projection = nn.Linear(shape.speech_dim, width)
        self.speech_place = nn.Parameter(torch.randn(shape.speech_steps, width) * 0.02)
        seen = shape.latent_channels * IDENTITY_CELLS**2
        self.identity_projection = nn.Sequential(nn.Linear(seen, width), nn.SiLU(), nn.Linear(width, width))
        self.motion_projection = nn.Linear(shape.motion_dim, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        spoken = self.speech_projection(speech) + self.speech_place
        cells = F.adaptive_avg_pool2d(reference, IDENTITY_CELLS).flatten(1)
        identity = self.identity_projection(cells)[:, None, None].expand(-1, speech.shape[1], -1, -1)
        moved = self.motion_projection(motion)[:, :, None]
        return self.norm(torch.cat([spoken, identity, moved], 2))


class Sd15Backbone(Backbone):
    """Choose it for real faces at 256 pixels and more, on a GPU; `sd15.source` names the weights to start from."""

    attention_targets = ("to_q", "to_k", "to_v", "to_out.0")
    # Linear layers, but not proj_in and proj_out of the temporal layers: diffusers calls those with keywords, and PEFT
    # does not accept keywords.
    other_targets = ("ff.net.0.proj", "ff.net.2", "time_emb_proj", "speech_projection", "motion_projection")

    def __init__(
        self,
        settings: BackboneSettings,
        shape: BackboneShape,
        unet: UNetMotionModel | None = None,
        pretrained: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`unet` is a UNetMotionModel with 2 * `shape.latent_channels` inputs, by default the one in the settings;
        `pretrained` records the sources of its weights."""
        super().__init__(settings, shape)
        self.pretrained = list(pretrained)
        if unet is None:
            unet, loaded = open_motion_unet(settings.sd15, shape.latent_channels, settings.window)
            self.pretrained = [one.to_json() for one in loaded]
        self.unet = unet
        self.tokens = ConditionTokens(shape, int(self.unet.config.cross_attention_dim))
        for name, module in self.unet.named_modules():
            if isinstance(module, Attention) and ".motion_modules." in name:
                module.set_processor(FrameAttention())

    def forward(self, z_t: Tensor, t: Tensor, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        tokens = self.tokens(speech, reference, (motion / self.motion_std).clamp(-4, 4))
        shown = torch.cat([z_t, reference[:, None].expand_as(z_t)], 2).transpose(1, 2)
        predicted = self.unet(shown, t, tokens.flatten(0, 1), return_dict=False)[0]
        return at_least_float32(predicted.transpose(1, 2))

    def compile_blocks(self) -> None:
        for module in self.unet.modules():
            if isinstance(module, (ResnetBlock2D, Transformer2DModel, AnimateDiffTransformer3D)):
                module.compile(dynamic=False)

    def enable_gradient_checkpointing(self, enable: bool = True) -> None:
        super().enable_gradient_checkpointing(enable)
        if enable:
            self.unet.enable_gradient_checkpointing()
        else:
            self.unet.disable_gradient_checkpointing()
        # diffusers checkpoints residual blocks and spatial attention, but not the temporal layers.
        for name, module in self.unet.named_modules():
            if name.rpartition(".")[0].endswith("motion_modules"):
                vars(module).pop("forward", None)
                if enable:
                    module.forward = functools.partial(checkpoint, module.forward, use_reentrant=False)

    def describe(self) -> dict[str, Any]:
        made_from = {"pretrained": self.pretrained} if self.pretrained else {}
        unet = {k: v for k, v in self.unet.config.items() if not k.startswith("_")}
        return super().describe() | {"unet": unet} | made_from

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        settings, shape = BackboneSettings(**config["settings"]), BackboneShape(**config["shape"])
        return cls(settings, shape, random_motion_unet(config["unet"]), config.get("pretrained", ()))
