"""A network's folder: weights and configuration, written together or not at all."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from common.files import replacing_folder
from common.folders import NETWORK_WEIGHTS


def save_network(network: nn.Module, folder: Path, config: str) -> None:
    """Write `model.safetensors` and `config.json`, JSON as text, in the place of whatever lies in `folder`.

    Weights that were cut short, or those of one network beside the configuration of another, are never found there.
    """
    with replacing_folder(folder) as partial:
        tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(tensors, partial / NETWORK_WEIGHTS)
        (partial / "config.json").write_text(config, encoding="utf-8")
