"""Number of kernels that a step and a score of `base` launch on a GPU, counted without one.

    python -m benchmarks.launches

A client's score is two passes over one window: so little arithmetic for a GPU that the number of operators should
decide how long it takes. Counted are operators that compute (no views), on a CPU under bfloat16 autocast, with few
channels: their number does not depend on sizes. A GPU fuses some that count several times here, such as RMSNorm's five.
Each reduction is undone again for comparison.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.subjects import TINY, Subject, settings_for
from common.folders import RunFolder
from training.adapters.adapter import Adapter
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer
from training.generation.frames import Generator
from training.model.autoencoders.small import SmallVae
from training.model.backbones import base
from training.model.backbones.base import rotate, turns_of
from training.model.backbones.kinds import build_backbone
from training.model.compute import halve_frozen
from training.model.frozen.rulers import IdentityRuler
from training.settings import BackboneSettings, VaeSettings
from training.settings.backbones import BaseSettings

WINDOW = 4


class Launches(TorchDispatchMode):
    """Counts operators that compute: views and empty tensors launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not operator.is_view and operator.overloadpacket.__name__ not in ("empty", "empty_like", "detach")
        return operator(*args, **(kwargs or {}))


def make_subject(folder: Path) -> Subject:
    """`base` at its usual depth, but narrow, with LoRA on attention."""
    torch.manual_seed(0)
    narrow = BackboneSettings(kind="base", window=WINDOW, base=BaseSettings(width=48, heads=2))
    backbone = build_backbone(narrow, TINY.shape).eval().requires_grad_(False)
    settings = settings_for(TINY)
    adapter = Adapter(backbone, settings.adapter, 0)
    halve_frozen(adapter.backbone)
    vae, ruler = SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)), IdentityRuler().frozen()
    storage = ClientStorage(RunFolder(folder), "fedavg")
    return Subject(ClientTrainer(storage, adapter, vae, ruler, settings, 0), TINY, 0)


def sampled(subject: Subject) -> Callable[[], object]:
    """The sampling of a score: one window, in as many steps as scores have."""
    trainer, shape = subject.trainer, subject.backbone.shape
    settings = trainer.settings.generation.model_copy(update={"steps": trainer.settings.federation.score_steps})
    generator = Generator(subject.backbone, trainer.vae, settings, trainer.settings.objective.shared_noise)
    reference = torch.zeros(shape.latent_channels, shape.latent_size, shape.latent_size)
    speech = torch.zeros(WINDOW, shape.speech_steps, shape.speech_dim)
    # Inference mode would count an operator that is made of several as one.
    whole = Generator.latents.__wrapped__  # type: ignore[attr-defined]
    return torch.no_grad()(lambda: whole(generator, reference, speech, 0))


def turned_anew(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate`, with the angles computed for each call."""
    return rotate(x, *turns_of(x.shape[-2], x.shape[-1], x.device).to(x.dtype))


UNDONE: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "LoRA by PEFT's products, where no gradients are taken": lambda: mock.patch(
        "training.model.lora_layers.pays", lambda weight, device: torch.is_grad_enabled()
    ),
    "frames' turns for each block anew": lambda: mock.patch.object(base, "rotate", turned_anew),
    "activations rounded for each product anew": lambda: mock.patch.object(base, "narrowed", lambda x: x),
}


def counted(work: Callable[[], object], undone: list[str]) -> int:
    with ExitStack() as stack:
        stack.enter_context(mock.patch("training.model.lora_layers.pays", lambda weight, device: True))
        stack.enter_context(mock.patch("training.model.device.has_fast_bfloat16", lambda device: True))
        for what in undone:
            stack.enter_context(UNDONE[what]())
        work()  # makes tables and the optimiser's state
        with Launches() as launches:
            work()
    return launches.count


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subject = make_subject(Path(folder))
        works = {"step": subject.stepper(2), "score": sampled(subject)}
        usual = {name: counted(work, []) for name, work in works.items()}
        print("| undone | a local step | × as it comes | a score's sampling | × as it comes |\n|---|---|---|---|---|")
        for what, some in {"as it comes": [], **{what: [what] for what in UNDONE}, "all three": list(UNDONE)}.items():
            found = {name: counted(work, some) for name, work in works.items()}
            cells = (f"{found[name]:,} | {found[name] / usual[name]:.2f}" for name in works)
            print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
