"""The kinds of backbone by name: building one for data of a given shape, and loading a saved one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError, PrivFedTalkError
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.backbones.tiny import TinyBackbone
from training.settings import BackboneSettings


def kind_of(name: str) -> type[Backbone]:
    """The class for `training.backbone.kind`; the libraries of a larger kind are loaded only if it is used."""
    if name == "base":
        from training.model.backbones.base import BaseBackbone

        return BaseBackbone
    if name == "sd15":
        from training.model.backbones.sd15 import Sd15Backbone

        return Sd15Backbone
    if name == "tiny":
        return TinyBackbone
    raise CorruptFileError(f"there is no kind of backbone {name!r}", remedy="choose tiny, base or sd15")


def build_backbone(settings: BackboneSettings, shape: BackboneShape) -> Backbone:
    """A new backbone: random, or made from the pretrained parts that the settings name.

    Weights are drawn from torch's global generator, on torch's default device.
    """
    return kind_of(settings.kind)(settings, shape)


def load_backbone(folder: Path) -> Backbone:
    """Load a saved backbone of any kind; it is frozen, as the federation needs it."""
    return kind_of(_settings_in(folder).get("kind", "tiny")).load(folder)


def window_of(folder: Path) -> int:
    """The number of frames in a saved backbone's window; its weights are not read."""
    return int(_settings_in(folder)["window"])


def shape_of(folder: Path) -> BackboneShape:
    """The shape of the data that a saved backbone is for; its weights are not read."""
    return BackboneShape(**_config_in(folder)["shape"])


def untrained_like(backbone: Backbone) -> Backbone:
    """The same network with random weights.

    The units of residual and motion are kept: they describe the data, not the training, and losses are comparable only
    in the same units.
    """
    random = type(backbone).from_config(backbone.describe())
    random.residual_std.copy_(backbone.residual_std)
    random.motion_std.copy_(backbone.motion_std)
    return random.eval().requires_grad_(False)


def _settings_in(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = _config_in(folder)["settings"]
    return settings


def _config_in(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        raise PrivFedTalkError(f"{folder} holds no backbone", remedy="make it first: privfedtalk train")
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config
