"""The tiny distilled autoencoders of the TAESD family, read from their authors' own files.

Ollin Boer Bohan, github.com/madebyollin/taesd. Encoder and decoder are plain chains of convolutions and residual
blocks of 64 channels. The names in a file determine the chain, so one module serves the whole family: 4 latent
channels (SD), 16 (FLUX.1, SD3), and 32 with a pooled path in the blocks at the lowest resolution (FLUX.2), a variant
that diffusers' `AutoencoderTiny` cannot represent. Choose `taef2` to prepare a corpus of real people without training
an autoencoder: 1.3 million parameters each way, 35 dB on faces of 256 pixels.
"""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import CorruptFileError
from training.model.autoencoders.base import Autoencoder
from training.model.saving import save_network

Layout = list[dict[str, Any]]
"""A chain of layers, each with its `kind` (conv, block, relu, upsample, bound) and the sizes of its weights."""


class Block(nn.Module):
    """Three 3 x 3 convolutions added to the input. `pooled` first adds a 1 x 1 path, normalised over the picture."""

    def __init__(self, width: int, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.pool: nn.Sequential | None = None
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return (self.conv(x) + x).relu()


class Bound(nn.Module):
    """Latents softly bounded to +-3, as the decoder was trained to expect them."""

    def forward(self, x: Tensor) -> Tensor:
        return (x / 3).tanh() * 3


class Taesd(Autoencoder):
    """Frames to the latent space of a large autoencoder, at a hundredth of its cost; downscaling by 8."""

    downscale = 8
    pixels_a_batch = 2**19

    def __init__(self, encoder: Layout, decoder: Layout, facts: dict[str, Any]) -> None:
        super().__init__()
        self.layouts, self.facts = {"encoder": encoder, "decoder": decoder}, facts
        self.encoder, self.decoder = _build(encoder), _build(decoder)
        self.register_statistics(int(encoder[-1]["out"]))

    def encode_raw(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels * 0.5 + 0.5)

    def decode_raw(self, latents: Tensor) -> Tensor:
        return self.decoder(latents) * 2 - 1

    def save(self, folder: Path) -> None:
        config = {"kind": "taesd", **self.facts, **self.layouts}
        save_network(self, folder, json.dumps(config) + "\n")


def read_taesd(encoder: Path, decoder: Path, facts: dict[str, Any]) -> Taesd:
    """The network in the files `*_encoder.pth` and `*_decoder.pth`; `facts` are saved in its configuration."""
    states = [_state(encoder), _state(decoder)]
    try:
        model = Taesd(_layout(states[0], decodes=False), _layout(states[1], decodes=True), facts)
        model.encoder.load_state_dict(states[0])
        model.decoder.load_state_dict(states[1])
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise CorruptFileError(
            f"{encoder.name} and {decoder.name} are no autoencoder of the TAESD family: {error}",
            remedy="take both files from github.com/madebyollin/taesd",
        ) from error
    return model


def _state(path: Path) -> dict[str, Tensor]:
    # The authors publish torch archives; with `weights_only` they are read without running code.
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise CorruptFileError(f"{path} is not a torch file: {error}", remedy="fetch it again") from error
    return {name: value.float() for name, value in loaded.items()}


def _layout(state: dict[str, Tensor], decodes: bool) -> Layout:
    """The chain that the names and shapes of a state dict describe.

    Layers without weights leave gaps in the numbering: in a decoder the bound at 0, a ReLU at 2 and upsampling
    elsewhere. An encoder has no gaps, and its convolutions without bias halve the resolution.
    """
    layers: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        number, _, inner = name.partition(".")
        layers.setdefault(int(number), {})[inner] = value
    layout: Layout = []
    for place in range(max(layers) + 1):
        held = layers.get(place)
        if held is None:
            layout.append({"kind": {0: "bound", 2: "relu"}.get(place, "upsample")})
        elif "conv.0.weight" in held:
            layout.append({"kind": "block", "width": len(held["conv.0.weight"]), "pooled": "pool.0.weight" in held})
        else:
            out, into = held["weight"].shape[:2]
            bias = "bias" in held
            stride = 1 if bias or decodes else 2
            layout.append({"kind": "conv", "in": into, "out": out, "bias": bias, "stride": stride})
    return layout


def _build(layout: Layout) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in layout:
        if layer["kind"] == "block":
            layers.append(Block(layer["width"], layer["pooled"]))
        elif layer["kind"] == "conv":
            stride, bias = layer["stride"], layer["bias"]
            layers.append(nn.Conv2d(layer["in"], layer["out"], 3, padding=1, stride=stride, bias=bias))
        else:
            layers.append(_without_weights(layer["kind"]))
    return nn.Sequential(*layers)


def _without_weights(kind: str) -> nn.Module:
    return Bound() if kind == "bound" else nn.ReLU() if kind == "relu" else nn.Upsample(scale_factor=2)
