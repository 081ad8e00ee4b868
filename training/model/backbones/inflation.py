"""Inflating Stable Diffusion's UNet for pictures to a motion UNet that makes the same prediction for each frame.

Weights come in diffusers' own format. A UNet with a setting that diffusers' motion UNet cannot represent (other
conditioning than a prompt, another time embedding) is refused by name: it would load without an error and compute
something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.utils import logging
from torch import nn

from common.errors import CorruptFileError, PrivFedTalkError
from common.weights.hub import Loaded
from training.model.backbones.sources import load_network
from training.settings.backbones import Sd15Settings

SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""The published configuration of Stable Diffusion 1.5's UNet: 859,520,964 parameters."""

ASSUMED: dict[str, Any] = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "dropout": 0.0,
    "encoder_hid_dim_type": None,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "num_class_embeds": None,
    "upcast_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "time_embedding_act_fn": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "attention_type": "default",
}
"""Settings that the motion UNet assumes of the UNet from which it is made."""


def open_motion_unet(settings: Sd15Settings, latent_channels: int, window: int) -> tuple[UNetMotionModel, list[Loaded]]:
    """The motion UNet that the settings name, with input channels for the reference, and the sources that were loaded.

    Without a source its weights are random. Raises `MissingWeightError` if a folder is absent or the hub cannot be
    reached, `CorruptFileError` if it holds something else, `PrivFedTalkError` if latents or window do not fit.
    """
    loaded: list[Loaded] = []
    if settings.source is None:
        flat = UNet2DConditionModel.from_config({**SD15_UNET, "in_channels": latent_channels})
    else:
        flat, own = load_network(UNet2DConditionModel, settings.source, "unet")
        loaded.append(own)
    if flat.config.in_channels != latent_channels:
        raise PrivFedTalkError(
            f"{settings.source} denoises latents of {flat.config.in_channels} channels; those of this run have "
            f"{latent_channels}",
            remedy="set training.vae.source to the autoencoder that it was trained with (for Stable Diffusion 1.5 "
            "stabilityai/sd-vae-ft-mse, or a folder of it)",
        )
    adapter = None
    if settings.motion is not None:
        adapter, own = load_network(MotionAdapter, settings.motion, None)
        loaded.append(own)
    unet = inflate(flat, adapter)
    longest = int(unet.config.motion_max_seq_length)
    if window > longest:
        raise PrivFedTalkError(
            f"training.backbone.window is {window}, and temporal layers reach over {longest} frames",
            remedy=f"set training.backbone.window to {longest} or less",
        )
    return unet, loaded


def inflate(flat: UNet2DConditionModel, adapter: MotionAdapter | None = None) -> UNetMotionModel:
    """A motion UNet with the weights of `flat` and twice its input channels; the new channels have zero weights.

    Without an adapter its temporal layers are new, and each ends in a zero projection: the output for each frame is
    that of `flat`, whatever the new channels hold.
    """
    for key, assumed in ASSUMED.items():
        if flat.config.get(key, assumed) != assumed:
            raise CorruptFileError(
                f"the UNet has {key}={flat.config[key]!r}, which the motion UNet of diffusers does not know",
                remedy="take weights of Stable Diffusion 1.x",
            )
    with _quiet():
        unet = UNetMotionModel.from_unet2d(flat, adapter)
    narrow, channels = unet.conv_in, int(flat.config.in_channels)
    wide = nn.Conv2d(2 * channels, narrow.out_channels, 3, padding=1).to(narrow.weight)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, :channels] = narrow.weight
        wide.bias.copy_(narrow.bias)  # type: ignore[union-attr]
    unet.conv_in = wide
    unet.register_to_config(in_channels=2 * channels)
    if adapter is None:
        for name, module in unet.named_modules():
            if name.rpartition(".")[0].endswith("motion_modules"):
                nn.init.zeros_(module.proj_out.weight)
                nn.init.zeros_(module.proj_out.bias)
    return unet


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress diffusers' warning about modules kept in float32, which does not matter in a float32 network."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def random_motion_unet(config: dict[str, Any]) -> UNetMotionModel:
    """A motion UNet of the given configuration, with random weights."""
    return UNetMotionModel.from_config(config)
