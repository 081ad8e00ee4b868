"""Fitting a local step into a worker's memory budget by computing a batch in parts.

The gradients of the parts are added up, so the optimiser still sees the configured batch; only the time and the
rounding (the last digits) differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from common.errors import PrivFedTalkError
from common.files import write_text
from common.folders import MEMORY
from preparation.crops.active_speaker import CEPSTRA, STEPS_PER_FRAME
from training.federation.client.training import ClientTrainer
from training.model.data import Batch
from training.model.objective import Draw, local_objective
from training.settings import TrainingSettings

GB = 1e9
PROBED = (2, 4)
"""Numbers of windows in the two steps that are measured; memory grows by the same amount with each window."""
HEAP_SLACK = 1.9
"""Bytes of process memory for each estimated byte of activations. Measured on the demo's backbone: the estimate is
within 1 % of the tensors that live at once, and glibc's heap holds 1.6 to 1.85 times as much between calls."""


@dataclass(frozen=True)
class MemoryPlan:
    """A batch computed in `parts` parts of `micro_batch` windows each; `peak_gb` is the peak while one is computed."""

    budget_gb: float
    batch_size: int
    micro_batch: int
    parts: int
    peak_gb: float
    measured: str


def within_budget(trainer: ClientTrainer, settings: TrainingSettings, folder: Path) -> TrainingSettings:
    """The settings with `federation.micro_batch` chosen for `federation.memory_budget_gb`; unchanged without a budget.

    The choice is printed to standard error and saved in `folder`/memory.json. A federation that is continued, here or
    on another machine, uses the saved choice, since another one would change the last digits.
    """
    budget = settings.federation.memory_budget_gb
    if budget is None:
        return settings
    kept, fingerprint = folder / MEMORY, settings.fingerprint()
    saved_plan = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if saved_plan.pop("settings", None) == fingerprint:
        plan = MemoryPlan(**saved_plan)
    else:
        plan = plan_memory(trainer, settings, budget)
        write_text(kept, json.dumps({**asdict(plan), "settings": fingerprint}, indent=1) + "\n")
    sys.stderr.write(
        f"memory: {plan.micro_batch} of {plan.batch_size} windows at once, {plan.parts} times a step, "
        f"{plan.peak_gb:.3f} GB of {plan.budget_gb:g} GB ({plan.measured})\n"
    )
    federation = settings.federation.model_copy(update={"micro_batch": plan.micro_batch})
    return settings.model_copy(update={"federation": federation})


def plan_memory(trainer: ClientTrainer, settings: TrainingSettings, budget_gb: float) -> MemoryPlan:
    """The largest equal parts of a batch with which a local step on the trainer's device stays within the budget.

    Counted are the models, the optimiser, and the activations and gradients of one step. Not counted are the libraries
    (about half a GB in a CPU worker) and the clip that is generated for the score, whose memory the autoencoder bounds.
    On a GPU the peak is measured; on a CPU it is estimated from the tensors that autograd saves for the backward pass,
    times `HEAP_SLACK`.
    """
    small, large = PROBED
    low, high = step_bytes(trainer, small), step_bytes(trainer, large)
    window = (high - low) / (large - small)
    federation = settings.federation
    # The inputs of the whole batch stay in memory while its parts are computed one after the other.
    waiting = waiting_bytes(trainer)
    window -= waiting
    fixed = low - small * (window + waiting) + federation.batch_size * waiting
    most = min(federation.batch_size, federation.micro_batch or federation.batch_size)
    fitting = min(most, int((budget_gb * GB - fixed) // window))
    if fitting < 1:
        raise PrivFedTalkError(
            f"a local step needs {(fixed + window) / GB:.3g} GB for one window, and federation.memory_budget_gb is "
            f"{budget_gb:g}",
            "raise the budget, or take a smaller backbone, window (backbone.window) or adapter.rank",
        )
    parts = -(-federation.batch_size // fitting)
    micro_batch = -(-federation.batch_size // parts)
    measured = "measured on the GPU" if trainer.device.type == "cuda" else "estimated for the CPU"
    peak = (fixed + micro_batch * window) / GB
    return MemoryPlan(budget_gb, federation.batch_size, micro_batch, parts, round(peak, 4), measured)


def waiting_bytes(trainer: ClientTrainer) -> int:
    """Bytes of one window's inputs, which stay on the device while other parts of the batch are computed."""
    return _input_bytes(*worst_case(trainer, 1))


def step_bytes(trainer: ClientTrainer, windows: int) -> int:
    """Peak bytes of a local step on `windows` windows, models and optimiser (AdamW's two moments) included."""
    batch, draw = worst_case(trainer, windows)
    parameters = trainer.adapter.parameters
    moments = 2 * _bytes(parameters)
    trainable_gradients = _bytes(parameters)

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        objective = trainer.settings.objective
        losses = local_objective(trainer.backbone, batch, draw, objective, trainer.pixel_terms)
        losses.total.backward()

    if trainer.device.type == "cuda":
        step()  # libraries allocate their workspaces once
        torch.cuda.reset_peak_memory_stats(trainer.device)
        step()
        peak = torch.cuda.max_memory_allocated(trainer.device) + moments
    else:
        kept = _SavedTensors(trainer.networks())
        with saved_tensors_hooks(kept.pack, lambda saved: saved):
            step()
        inputs = _input_bytes(batch, draw)
        # While a layer's gradient is computed, its incoming and outgoing gradients exist beside the saved tensors.
        activations = int(HEAP_SLACK * (inputs + kept.total + 2 * kept.largest))
        networks = kept.networks + _bytes(trainer.adapter.frozen.values())
        peak = networks + moments + trainable_gradients + activations
    for parameter in parameters:
        parameter.grad = None
    return peak


class _SavedTensors:
    """Bytes of the tensors that autograd saves, each storage counted once; the networks' own are counted apart."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self.total = self.largest = self.networks = 0
        self._seen: set[int] = set()
        self._alive: list[Tensor] = []
        for network in networks:
            for tensor in [*network.parameters(), *network.buffers()]:
                self.networks += self._new_bytes(tensor)

    def pack(self, saved: Tensor) -> Tensor:
        size = self._new_bytes(saved)
        self.total += size
        self.largest = max(self.largest, size)
        return saved

    def _new_bytes(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._seen:
            return 0
        self._seen.add(storage.data_ptr())
        self._alive.append(tensor.detach())  # while it is alive, its address cannot be reused
        return storage.nbytes()


def worst_case(trainer: ClientTrainer, windows: int) -> tuple[Batch, Draw]:
    """A batch of the right shapes at the lowest noise level, at which terms on decoded frames use every window."""
    shape, frames = trainer.backbone.shape, trainer.backbone.settings.window
    size = shape.latent_size
    latents = torch.zeros(windows, frames, shape.latent_channels, size, size)
    cells = torch.zeros(windows, frames, size, size)
    batch = Batch(
        latents=latents,
        speech=torch.zeros(windows, frames, shape.speech_steps, shape.speech_dim),
        reference=torch.zeros(windows, shape.latent_channels, size, size),
        motion=torch.zeros(windows, frames, shape.motion_dim),
        mouth=cells,
        eyes=cells,
        cepstra=torch.zeros(windows, frames, STEPS_PER_FRAME, CEPSTRA),
    )
    draw = Draw(eps=torch.ones_like(latents), t=torch.zeros(windows, dtype=torch.long))
    return batch.to(trainer.device), draw.to(trainer.device)


def _input_bytes(batch: Batch, draw: Draw) -> int:
    return _bytes([*(value for value in vars(batch).values() if value is not None), draw.eps])


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
