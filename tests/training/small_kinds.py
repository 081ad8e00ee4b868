"""Each kind of backbone at its smallest; sd15's from a folder in the published format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.training.small_models import SHAPE
from training.model.backbones.interface import Backbone
from training.model.backbones.kinds import build_backbone
from training.settings import BackboneSettings
from training.settings.backbones import BaseSettings, Sd15Settings

KINDS = ("tiny", "base", "sd15")


def save_small_unet(folder: Path, channels: int = SHAPE.latent_channels, **changes: object) -> Path:
    """A UNet2DConditionModel of a few thousand weights, as diffusers' `save_pretrained` writes them."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(3)
    values = {
        "sample_size": SHAPE.latent_size,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
    }
    UNet2DConditionModel(**{**values, **changes}).save_pretrained(folder)
    return folder


def small_settings(kind: str, folder: Path, window: int = 6, **values: Any) -> BackboneSettings:
    """Settings of a kind; sd15 predicts what Stable Diffusion's weights predict. `folder` is to hold the UNet."""
    if kind == "tiny":
        return BackboneSettings(width=32, depth=2, heads=2, window=window, **values)
    if kind == "base":
        return BackboneSettings(kind="base", window=window, base=BaseSettings(width=32, depth=2, heads=2), **values)
    if not folder.exists():
        save_small_unet(folder)
    native = {"diffused": "latent", "prediction": "epsilon", "schedule": "stable_diffusion", **values}
    return BackboneSettings(kind="sd15", window=window, sd15=Sd15Settings(source=str(folder)), **native)


def small_kind(kind: str, folder: Path, **values: Any) -> Backbone:
    """A small backbone whose zero-initialised layers are given weights, so that every path matters."""
    settings = small_settings(kind, folder, **values)
    torch.manual_seed(0)
    model = build_backbone(settings, SHAPE)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()
