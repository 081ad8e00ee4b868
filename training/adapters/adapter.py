"""The LoRA adapter, eq. 7: one flat vector for the federation, PEFT's files for everybody else."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.numpy import save_file
from torch import Tensor, nn

from common.errors import PrivFedTalkError
from common.files import replacing_folder
from common.folders import ADAPTER_RECORD, ADAPTER_WEIGHTS
from training.adapters.cards import adapter_card
from training.adapters.checks import PEFT_PREFIX, adapted_sides, check_fits, check_rank, pattern_of, read_adapter
from training.adapters.factors import Factors, factorised
from training.model.backbones.interface import Backbone
from training.model.lora_layers import train_as_one_product
from training.settings import AdapterSettings


class Adapter:
    """A backbone wrapped by PEFT, whose LoRA weights are read and written as one float32 vector theta.

    theta concatenates all A and B in the sorted order of their names, so the same configuration always yields
    the same layout. With `averaging: ffa` it consists of B only: A is drawn from the seed and the same for all clients.
    With `fedex` it ends with the residual R, which is not trained: the frozen weights are W + s R, s = alpha / rank.
    """

    def __init__(self, backbone: Backbone, settings: AdapterSettings, seed: int) -> None:
        targets = backbone.attention_targets + (backbone.other_targets if settings.targets == "all" else ())
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(targets),
            lora_dropout=0.0,
            bias="none",
        )
        sides = adapted_sides(backbone, targets).values()
        check_rank(settings.rank, sides, "training.adapter")
        self.base_sha256 = weights_sha256(backbone)
        # PEFT draws A from torch's global generator.
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        self.model: PeftModel = get_peft_model(backbone, config)
        torch.set_rng_state(state)
        for layer in self.model.modules():
            if isinstance(layer, LoraLayer):
                # PEFT would cast inputs to the adapter's float32, and autocast would cast them back: wasted work.
                layer.cast_input_dtype_enabled = False
        train_as_one_product(self.model)
        if settings.averaging == "ffa":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_("lora_B" in name)
        self.names = sorted(name for name, p in self.model.named_parameters() if p.requires_grad)
        named = dict(self.model.named_parameters())
        self.parameters: list[nn.Parameter] = [named[name] for name in self.names]
        self.scale = settings.alpha / settings.rank
        self.factors = Factors.of({name: named[name].shape for name in self.names})
        self.frozen: dict[str, Tensor] = {}  # the original W by layer, where the weight is W + s R
        if settings.averaging == "fedex":
            self.frozen = {pair.layer: self._weight(pair.layer).detach().clone() for pair in self.factors.pairs}
        self._residual = np.zeros(self.factors.size if self.frozen else 0, np.float32)

    @property
    def backbone(self) -> Backbone:
        """The backbone with the adapter active inside it."""
        backbone = self.model.get_base_model()
        assert isinstance(backbone, Backbone)
        return backbone

    def __len__(self) -> int:
        """The number of trained parameters."""
        return sum(p.numel() for p in self.parameters)

    def vector(self) -> npt.NDArray[np.float32]:
        """theta, float32 [d]; with `fedex` the residual follows."""
        trained = torch.cat([p.detach().float().flatten().cpu() for p in self.parameters]).numpy()
        return np.concatenate([trained, self._residual]) if self.frozen else trained

    @torch.no_grad()
    def load_vector(self, theta: npt.NDArray[np.float32]) -> None:
        """Write theta, float32 [d], into the adapter; with `fedex` the residual follows, or is left out if zero."""
        trained, residual = theta[: len(self)], theta[len(self) :]
        assert len(trained) == len(self) and len(residual) in (0, len(self._residual)), (
            f"adapter has {len(self)} parameters and {len(self._residual)} of a residual, vector {theta.shape}"
        )
        for parameter, part in zip(self.parameters, self._split(torch.from_numpy(trained)), strict=True):
            parameter.copy_(part)
        if self.frozen:
            self._load_residual(residual if len(residual) else np.zeros_like(self._residual))

    def _load_residual(self, residual: npt.NDArray[np.float32]) -> None:
        if np.array_equal(residual, self._residual):
            return
        self._residual = residual.copy()
        for layer, part in self.factors.matrices(self._residual).items():
            weight = self._weight(layer)
            moved = self.scale * torch.from_numpy(part).to(weight.device)
            weight.copy_(self.frozen[layer] + moved.view_as(weight))

    def _weight(self, layer: str) -> nn.Parameter:
        weight = self.model.get_submodule(layer).get_base_layer().weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def _split(self, theta: Tensor) -> list[Tensor]:
        parts = theta.split([p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def save(self, folder: Path, theta: npt.NDArray[np.float32], metadata: dict[str, str]) -> None:
        """Write PEFT's `adapter_config.json` and `adapter_model.safetensors`, `privfedtalk.json` (the record), a card.

        All files are written or none; an adapter that was there is replaced as a whole. A residual is saved as a
        higher rank of its layers, so that the files load on the unchanged base model.
        """
        self.load_vector(theta)
        facts = {"base_sha256": self.base_sha256, "parameters": len(self), **metadata}
        with replacing_folder(folder) as partial:  # weights never lie beside another adapter's record
            self.model.save_pretrained(str(partial))
            if self._residual.any():
                self._save_widened(partial)
            adapter_card(partial, facts).write(partial)  # replaces PEFT's empty template
            (partial / ADAPTER_RECORD).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def _save_widened(self, folder: Path) -> None:
        """Overwrite B A with factors of R + B A, of the least rank that holds it and with the same scale."""
        config = deepcopy(self.model.peft_config["default"])
        assert isinstance(config, LoraConfig)
        whole = self.factors.products(self.vector()[: len(self)]) + self._residual
        tensors: dict[str, npt.NDArray[np.float32]] = {}
        for layer, matrix in self.factors.matrices(whole).items():
            a, b = factorised(matrix)
            tensors |= {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
            pattern = pattern_of(layer.removeprefix(PEFT_PREFIX))
            config.rank_pattern[pattern], config.alpha_pattern[pattern] = len(a), self.scale * len(a)
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config.inference_mode = True
        config.save_pretrained(str(folder))


def load_adapted(backbone: Backbone, folder: Path, merged: bool = False) -> Backbone:
    """Put a saved adapter on the backbone it was trained for.

    Raises PrivFedTalkError for another backbone, and for a folder with anything but a plain LoRA adapter for this
    backbone; everything is checked before PEFT gets any of it. `merged` adds s B A to the frozen weights, for use
    without training: the same function but for rounding, without the adapter's products in each layer.
    """
    adapter, found = read_adapter(folder), weights_sha256(backbone)
    base = adapter.record["base_sha256"]
    if base != found:
        raise PrivFedTalkError(
            f"the adapter in {folder} was trained on backbone {base[:12]}, not on {found[:12]}",
            "load the backbone of the same run, or train the adapter again",
        )
    check_fits(adapter, backbone, folder)
    shape = adapter.shape
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        target_modules=list(shape.targets),
        rank_pattern={pattern_of(layer): rank for layer, rank in shape.ranks.items()},
        alpha_pattern={pattern_of(layer): alpha for layer, alpha in shape.alphas.items()},
        inference_mode=True,
    )
    wrapped = get_peft_model(backbone, config)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in adapter.tensors.items()}
    assert not set_peft_model_state_dict(wrapped, tensors).unexpected_keys
    adapted = wrapped.merge_and_unload() if merged else wrapped.get_base_model()
    assert isinstance(adapted, Backbone)
    return adapted.eval().requires_grad_(False)


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers by name, shape and bytes; call it before an adapter is added."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
