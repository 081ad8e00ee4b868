"""Saving a network: weights and configuration, written together or not at all."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from common.files import replacing_folder
from common.folders import NETWORK_WEIGHTS


def save_network(network: nn.Module, folder: Path, config: str) -> None:
    """Write `model.safetensors` and `config.json` (`config` is JSON text), replacing `folder` as a whole.

    The folder therefore never holds incomplete weights, or the weights of one network with the configuration of
    another.
    """
    with replacing_folder(folder) as partial:
        tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(tensors, partial / NETWORK_WEIGHTS)
        (partial / "config.json").write_text(config, encoding="utf-8")
