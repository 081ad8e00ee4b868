"""Autoencoders in diffusers' format: `AutoencoderKL` (SD, SDXL, FLUX) and `AutoencoderTiny` (TAESD).

Choose a KL autoencoder where quality matters more than time (it costs a hundred times as much), else a tiny one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from common.errors import CorruptFileError
from training.model.autoencoders.base import Autoencoder
from training.model.saving import save_network

CLASSES = ("AutoencoderKL", "AutoencoderTiny")


class DiffusersAutoencoder(Autoencoder):
    """One of diffusers' autoencoders behind the interface `Autoencoder`.

    `config` is its own config.json, whose `_class_name` names the class; `facts` say where the weights came from.
    Latents are scaled as in diffusers' pipelines, (z - shift_factor) * scaling_factor, before they are standardised;
    on pictures like the network's training set, their mean and deviation are then already near 0 and 1.
    """

    def __init__(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        super().__init__()
        import diffusers

        kind = config.get("_class_name")
        if kind not in CLASSES:
            raise CorruptFileError(
                f"the autoencoder's config.json names the class {kind!r}", remedy=f"choose {' or '.join(CLASSES)}"
            )
        self.config, self.facts = config, facts
        self.network = getattr(diffusers, kind).from_config(config)
        self.is_kl = kind == "AutoencoderKL"
        stages = self.network.config["block_out_channels" if self.is_kl else "encoder_block_out_channels"]
        self.downscale = 2 ** (len(stages) - 1)
        # The widest activations lie at full resolution: 128 channels of float32, several at a time, in the KL networks.
        self.pixels_a_batch = 2**18 if self.is_kl else 2**19
        self.scale = float(self.network.config.scaling_factor or 1.0)
        self.shift = float(self.network.config.shift_factor or 0.0)
        self.register_statistics(int(self.network.config.latent_channels))

    def encode_raw(self, pixels: Tensor) -> Tensor:
        coded = self.network.encode(pixels)
        return ((coded.latent_dist.mode() if self.is_kl else coded.latents) - self.shift) * self.scale

    def decode_raw(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents / self.scale + self.shift).sample

    def save(self, folder: Path) -> None:
        config = {"kind": "diffusers", **self.facts, "diffusers": self.config}
        save_network(self, folder, json.dumps(config, indent=2) + "\n")
