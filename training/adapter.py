"""The LoRA adapter, eq. 7: one flat vector to the federation, PEFT's files to the rest of the world."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from preparation.errors import PrivFedTalkError
from training.backbone.interface import Backbone
from training.settings import AdapterSettings


class Adapter:
    """A backbone wrapped by PEFT, whose LoRA weights read and write as one float32 vector theta.

    theta concatenates all A and B in the sorted order of their names, so the same configuration always yields
    the same layout. With `averaging: ffa` it has B alone: A is drawn from the seed, the same for everybody.
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
        self.base_sha256 = weights_sha256(backbone)
        # PEFT draws A from torch's global generator.
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        self.model: PeftModel = get_peft_model(backbone, config)
        torch.set_rng_state(state)
        if settings.averaging == "ffa":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_("lora_B" in name)
        self.names = sorted(name for name, p in self.model.named_parameters() if p.requires_grad)
        named = dict(self.model.named_parameters())
        self.parameters: list[nn.Parameter] = [named[name] for name in self.names]

    @property
    def backbone(self) -> Backbone:
        """The backbone with the adapter active inside it."""
        backbone = self.model.get_base_model()
        assert isinstance(backbone, Backbone)
        return backbone

    def __len__(self) -> int:
        return sum(p.numel() for p in self.parameters)

    def vector(self) -> npt.NDArray[np.float32]:
        """theta, float32 [d]."""
        return torch.cat([p.detach().float().flatten().cpu() for p in self.parameters]).numpy()

    @torch.no_grad()
    def load_vector(self, theta: npt.NDArray[np.float32]) -> None:
        """Write theta, float32 [d], into the adapter."""
        assert theta.shape == (len(self),), f"adapter has {len(self)} parameters, vector {theta.shape}"
        for parameter, part in zip(self.parameters, self._split(torch.from_numpy(theta)), strict=True):
            parameter.copy_(part)

    def _split(self, theta: Tensor) -> list[Tensor]:
        parts = theta.split([p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def save(self, folder: Path, theta: npt.NDArray[np.float32], metadata: dict[str, str]) -> None:
        """Write `adapter_config.json`, `adapter_model.safetensors` (PEFT's) and `privfedtalk.json` (base hash)."""
        self.load_vector(theta)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(str(folder))
        facts = {"base_sha256": self.base_sha256, "parameters": len(self), **metadata}
        (folder / "privfedtalk.json").write_text(json.dumps(facts, indent=2) + "\n")


def load_adapted(backbone: Backbone, folder: Path) -> Backbone:
    """Put a saved adapter on the backbone it was trained for; another backbone is an error."""
    facts = json.loads((folder / "privfedtalk.json").read_text())
    found = weights_sha256(backbone)
    if facts["base_sha256"] != found:
        raise PrivFedTalkError(
            f"the adapter in {folder} was trained on backbone {facts['base_sha256'][:12]}, not on {found[:12]}",
            "load the backbone of the same run, or train the adapter again",
        )
    adapted = PeftModel.from_pretrained(backbone, str(folder)).get_base_model()
    assert isinstance(adapted, Backbone)
    return adapted.eval().requires_grad_(False)


def weights_sha256(model: nn.Module) -> str:
    """Hash of all parameters and buffers by name, shape and bytes, before any adapter is put in."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
