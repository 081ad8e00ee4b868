"""From Stable Diffusion's UNet for pictures to a motion UNet that says the same of every single frame.

Weights come in diffusers' own format. What the motion UNet of diffusers cannot express (another conditioning than a
prompt's, another time embedding) is refused by name: it would load without complaint and draw something else.
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
from training.settings import Sd15Settings

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
"""What the motion UNet takes for granted of the UNet it is made from."""


def open_motion_unet(settings: Sd15Settings, latent_channels: int, window: int) -> tuple[UNetMotionModel, list[Loaded]]:
    """The network that the settings name, widened for a reference beside the noise, and what was loaded for it; without
    a source, a random one.

    Raises `MissingWeightError` where a folder is absent or the hub cannot be reached, `CorruptFileError` where it
    holds something else, `PrivFedTalkError` where latents or window do not fit the weights.
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
    """A motion UNet with the weights of `flat` and as many input channels again, of zero weights.

    Without an adapter its temporal layers are new, and each ends in a projection of zeros: frame by frame the output
    is that of `flat`, whatever the further channels hold.
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
    """Without diffusers' warning that no module is to be kept in float32, in a network that is float32."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def random_motion_unet(config: dict[str, Any]) -> UNetMotionModel:
    """A motion UNet of a configuration, its weights random."""
    return UNetMotionModel.from_config(config)
