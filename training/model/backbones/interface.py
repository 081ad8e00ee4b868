"""The interface of every backbone: noisy latents and conditions in, the configured prediction out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from common.folders import NETWORK_WEIGHTS
from common.settings import Settings
from training.model.backbones.conditions import SpeechEncoder
from training.model.diffusion import Process
from training.model.saving import save_network
from training.settings import BackboneSettings


class BackboneShape(Settings):
    """Sizes of a backbone that the data decides."""

    latent_channels: int
    latent_size: int
    speech_steps: int
    speech_dim: int
    motion_dim: int


class Backbone(nn.Module, ABC):
    """A denoiser of windows of latents. Subclasses provide `forward` and name the layers that LoRA may adapt.

    `settings.diffused` says what is diffused: the residual of each frame's latent to the reference, in units of
    `residual_std`, or the latent itself (`residual_std` is then one). `process` says what the network predicts.
    """

    attention_targets: ClassVar[tuple[str, ...]]
    """Names of the attention's query, key, value and output projections, as PEFT takes them."""
    other_targets: ClassVar[tuple[str, ...]]
    """Names of further layers to adapt where `adapter.targets` is `all`."""

    speech_encoder: SpeechEncoder | None
    """Pretrained on the lips' shape before the denoiser is trained; None in kinds without a speech encoder."""

    residual_std: Tensor
    motion_std: Tensor

    def __init__(self, settings: BackboneSettings, shape: BackboneShape) -> None:
        super().__init__()
        self.settings, self.shape = settings, shape
        self.speech_encoder = None
        self.gradient_checkpointing = False
        self.register_buffer("residual_std", torch.ones(1, 1, shape.latent_channels, 1, 1))
        self.register_buffer("motion_std", torch.ones(shape.motion_dim))

    @abstractmethod
    def forward(self, z_t: Tensor, t: Tensor, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        """z_t [B, F, C, h, w] noisy, in the diffused quantity's units; t [B]; speech [B, F, S, D]; reference
        [B, C, h, w] latent; motion [B, F, M] of each frame relative to the reference.
        Returns the prediction [B, F, C, h, w], at least float32.
        """

    @property
    def process(self) -> Process:
        """The noise schedule that the backbone was trained on, and what it predicts."""
        return Process(self.settings.schedule, self.settings.prediction)

    def to_diffused(self, latents: Tensor, reference: Tensor) -> Tensor:
        """The diffused quantity z0 of latents [B, F, C, h, w] with reference [B, C, h, w]."""
        origin = reference[:, None] if self.settings.diffused == "residual" else 0.0
        return (latents - origin) / self.residual_std

    def to_latents(self, z0: Tensor, reference: Tensor) -> Tensor:
        """The inverse of `to_diffused`."""
        origin = reference[:, None] if self.settings.diffused == "residual" else 0.0
        return origin + z0 * self.residual_std

    def enable_gradient_checkpointing(self, enable: bool = True) -> None:
        """Choose whether blocks recompute their activations in the backward pass: less memory, about a third more time.

        Gradients stay the same.
        """
        self.gradient_checkpointing = enable

    def compile_blocks(self) -> None:
        """Compile the network with torch; kinds with equal blocks compile the blocks instead, each size once."""
        self.compile(dynamic=False)

    def describe(self) -> dict[str, Any]:
        """The configuration from which `from_config` makes the same network, without its weights."""
        return {"settings": self.settings.model_dump(mode="json"), "shape": self.shape.model_dump()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A network with random weights from another one's `describe`."""
        return cls(BackboneSettings(**config["settings"]), BackboneShape(**config["shape"]))

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        save_network(self, folder, json.dumps(self.describe(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the network is frozen, as the federation needs it."""
        with torch.device("meta"):  # draws no random weights, which would be replaced
            model = cls.from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model.to_empty(device="cpu").load_state_dict(load_file(folder / NETWORK_WEIGHTS))
        return model.eval().requires_grad_(False)
