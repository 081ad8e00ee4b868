"""What makes steps faster changes nothing but the last digits of what is learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch._inductor import config as inductor

from tests.training.small_federation import settings_with
from tests.training.small_kinds import KINDS, small_kind
from training.adapters.adapter import Adapter
from training.federation.client.training import Announcement, ClientTrainer
from training.model.backbones.tiny import TinyBackbone
from training.model.compute import speed_up
from training.model.data import Batch
from training.model.device import full_precision
from training.settings import AdapterSettings, ComputeSettings, TrainingSettings


def update(trainer_for: Callable[..., ClientTrainer], **compute: bool) -> np.ndarray:
    settings: TrainingSettings = settings_with("fedavg").model_copy(update={"compute": ComputeSettings(**compute)})
    trainer = trainer_for(settings, "fedavg")
    speed_up(trainer.backbone, settings.compute)
    return trainer.train("c2", Announcement(1, trainer.adapter.vector())).delta


@pytest.mark.parametrize("option", ["gradient_checkpointing", "channels_last", "frozen_bfloat16"])
def test_the_same_is_learned(trainer_for: Callable[..., ClientTrainer], option: str) -> None:
    plain, other = update(trainer_for), update(trainer_for, **{option: True})
    assert np.linalg.norm(other - plain) < 0.05 * np.linalg.norm(plain)


@pytest.mark.slow(minutes=4)
def test_compiled_the_same_is_learned(trainer_for: Callable[..., ClientTrainer]) -> None:
    """In float32, and under autocast where the compiler rounds wherever torch does; where it rounds less often, as it
    comes, what is learned is no further from float32."""
    with full_precision():
        exact, exact_compiled = update(trainer_for), update(trainer_for, compile=True)
    assert np.linalg.norm(exact_compiled - exact) < 1e-3 * np.linalg.norm(exact)
    plain, compiled = update(trainer_for), update(trainer_for, compile=True)
    assert np.linalg.norm(compiled - exact) < 1.1 * max(np.linalg.norm(plain - exact), 1e-3 * np.linalg.norm(exact))
    torch.compiler.reset()
    with inductor.patch(emulate_precision_casts=True):
        rounded = update(trainer_for, compile=True)
    assert np.linalg.norm(rounded - plain) < 0.05 * np.linalg.norm(plain)


@pytest.mark.slow(minutes=1.5)
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_each_kind_computes_the_same(batch: Batch, tmp_path: Path, kind: str) -> None:
    """In training and, as a score does, without gradients, in float32."""

    def computed(compiled: bool) -> tuple[Tensor, Tensor, Tensor]:
        adapter = Adapter(small_kind(kind, tmp_path / "unet"), AdapterSettings(rank=2), 0)
        noise = np.random.default_rng(0).normal(0, 0.02, len(adapter)).astype(np.float32)
        adapter.load_vector(adapter.vector() + noise)
        speed_up(adapter.backbone, ComputeSettings(compile=compiled))
        t = torch.arange(len(batch.latents)) * 300 + 50
        given = (batch.latents, t, batch.speech, batch.reference, batch.motion)
        predicted = adapter.backbone(*given)
        predicted.square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in adapter.parameters if p.grad is not None])
        with torch.no_grad():
            return predicted.detach(), gradient, adapter.backbone(*given)

    plain, compiled = computed(False), computed(True)
    assert len(plain[1]) and plain[1].any()
    for expected, found in zip(plain, compiled, strict=True):
        assert (found - expected).norm() < 1e-4 * expected.norm()


def test_what_learns_stays_whole(trainer_for: Callable[..., ClientTrainer]) -> None:
    trainer = trainer_for(settings_with("fedavg"), "fedavg")
    speed_up(trainer.backbone, ComputeSettings(frozen_bfloat16=True))
    assert {p.dtype for p in trainer.adapter.parameters} == {torch.float32}


def test_inputs_of_the_adapter_are_not_widened_for_nothing(trainer_for: Callable[..., ClientTrainer]) -> None:
    """Bit for bit the same gradients with PEFT's own cast to float32 put back."""
    gradients = []
    for widened in (False, True):
        trainer = trainer_for(settings_with("fedavg"), "fedavg")
        for layer in trainer.backbone.modules():
            if isinstance(layer, LoraLayer):
                assert not layer.cast_input_dtype_enabled
                layer.cast_input_dtype_enabled = widened
        gradients.append(trainer.train("c2", Announcement(1, trainer.adapter.vector())).delta)
    assert isinstance(trainer.backbone, TinyBackbone)
    np.testing.assert_array_equal(gradients[0], gradients[1])
