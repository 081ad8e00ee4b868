"""A run's folder with everything that talking needs, untrained and tiny: crops of 64 pixels, log-mel speech."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.folders import RunFolder
from preparation.clients.consent import Consent, now, write_consent
from preparation.settings import CropSettings, FaceSettings, PreparationSettings
from training.adapters.adapter import Adapter
from training.model.autoencoders.small import SmallVae
from training.model.backbones.interface import BackboneShape
from training.model.backbones.tiny import TinyBackbone
from training.settings import AdapterSettings, BackboneSettings, VaeSettings

SIZE = 64
PREPARATION = PreparationSettings(crops=CropSettings(size=SIZE), faces=FaceSettings(tracker="truth"))
SHAPE = BackboneShape(latent_channels=4, latent_size=8, speech_steps=20, speech_dim=80, motion_dim=12)


def make_run(root: Path, client: str = "c0000") -> RunFolder:
    """A backbone, an autoencoder, the shared adapter of privfedtalk and that of one client, who agreed."""
    run = RunFolder(root)
    torch.manual_seed(0)
    backbone = TinyBackbone(BackboneSettings(width=16, depth=1, heads=2, window=6), SHAPE)
    torch.nn.init.normal_(backbone.patch_out.weight, std=0.1)
    backbone.save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    adapter = Adapter(TinyBackbone.load(run.model("backbone")), AdapterSettings(rank=2), seed=0)
    theta = np.random.default_rng(0).normal(0, 0.1, len(adapter)).astype(np.float32)
    adapter.save(run.adapter("privfedtalk"), theta, {"method": "privfedtalk", "privacy": "epsilon 3"})
    adapter.save(run.client_adapter(client, "privfedtalk"), 2 * theta, {"method": "privfedtalk", "client": client})
    write_consent(run, client, Consent(who="Ada", granted=now()))
    return run


LAYER = "base_model.model.blocks.0.space.to_q"
"""One of the layers that its adapters change, by PEFT's name."""


def change(path: Path, **values: object) -> None:
    """Other values in a file of JSON."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def portrait() -> np.ndarray:
    """A smooth picture of a crop's size, uint8 [64, 64, 3]."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return np.stack([120 + 80 * np.sin(4 * x), 110 + 60 * np.cos(5 * y), 100 + 50 * np.sin(3 * x + 2 * y)], -1).astype(
        np.uint8
    )


def write_portrait(path: Path) -> Path:
    Image.fromarray(portrait()).save(path)
    return path


def voice(seconds: float) -> np.ndarray:
    """A tone that swells and fades as syllables do, int16 [S], 16 kHz."""
    t = np.arange(int(16_000 * seconds)) / 16_000
    return (6000 * np.sin(2 * np.pi * 180 * t) * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * t))).astype(np.int16)
