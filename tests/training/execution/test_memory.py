"""A batch in parts has the batch's gradient; a small budget takes smaller parts and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import PrivFedTalkError
from tests.training.small_federation import TrainerFor, settings_with
from tests.training.small_models import make_clip
from training.execution.memory import GB, plan_memory, step_bytes, waiting_bytes, within_budget
from training.federation.client.training import Announcement
from training.model.data import Batch
from training.model.objective import Draw, feature_weight, local_objective
from training.settings import TrainingSettings


def with_federation(settings: TrainingSettings, **values: object) -> TrainingSettings:
    return settings.model_copy(update={"federation": settings.federation.model_copy(update=values)})


@pytest.mark.parametrize("at_once", [1, 2, 3, 4])
def test_gradients_of_the_parts_add_up_to_the_batchs(
    trainer_for: TrainerFor, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("training.model.device.has_fast_bfloat16", lambda device: False)  # its sums are rounded at 1e-3
    settings = settings_with("privfedtalk")
    whole = trainer_for(settings, "privfedtalk")
    parts = trainer_for(with_federation(settings, micro_batch=at_once), "privfedtalk")
    clips = [make_clip(seed) for seed in range(7)]
    fields = ("latents", "speech", "motion", "mouth", "eyes")
    cut = {name: torch.stack([getattr(clip, name)[:6] * (1 + i) for i, clip in enumerate(clips)]) for name in fields}
    batch = Batch(reference=torch.stack([clip.reference for clip in clips]), **cut)
    draw = Draw.sample(batch.latents, settings.objective, torch.Generator().manual_seed(1))
    theta = np.random.default_rng(0).normal(0, 0.1, len(whole.adapter)).astype(np.float32)
    gradients, losses = [], []
    for trainer in (whole, parts):
        trainer.adapter.load_vector(theta)
        losses.append({name: float(loss) for name, loss in trainer._backward(batch, draw).items()})
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.adapter.parameters if p.grad is not None]))
    assert gradients[0].norm() > 1e-2
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-5 * float(gradients[0].norm()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert feature_weight(batch.part(slice(0, 2)), settings.objective).mean() == pytest.approx(1)
    assert local_objective(whole.backbone, batch, draw, settings.objective).total.item() == pytest.approx(
        losses[0]["total"]
    )


def test_a_small_budget_takes_smaller_parts(
    trainer_for: TrainerFor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = with_federation(settings_with("fedavg"), batch_size=8)
    trainer = trainer_for(settings, "fedavg")
    one, two, four, eight = (step_bytes(trainer, windows) for windows in (1, 2, 4, 8))
    assert eight - two == pytest.approx(6 * (two - one), rel=0.05)
    ample = plan_memory(trainer, settings, budget_gb=1.01 * eight / GB)
    assert (ample.micro_batch, ample.parts) == (8, 1)
    assert plan_memory(trainer, settings, budget_gb=four / GB).micro_batch < 4, "the other four windows take room, too"
    enough = 1.01 * (four + 4 * waiting_bytes(trainer)) / GB
    tight = plan_memory(trainer, settings, budget_gb=enough)
    assert (tight.micro_batch, tight.parts) == (4, 2)
    assert four / GB < tight.peak_gb <= enough < ample.peak_gb
    with pytest.raises(PrivFedTalkError, match=r"for one window, and federation\.memory_budget_gb is"):
        plan_memory(trainer, settings, budget_gb=0.9 * one / GB)

    budget = with_federation(settings, memory_budget_gb=enough)
    chosen = within_budget(trainer, budget, tmp_path)
    assert chosen.federation.micro_batch == 4
    assert "memory: 4 of 8 windows at once, 2 times a step" in capsys.readouterr().err

    # What was chosen stays, also where another machine would choose otherwise.
    kept = tmp_path / "memory.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "micro_batch": 2}))
    assert within_budget(trainer, budget, tmp_path).federation.micro_batch == 2
    assert within_budget(trainer, settings, tmp_path) is settings


def test_a_client_trained_in_parts_goes_the_same_way(trainer_for: TrainerFor) -> None:
    settings = with_federation(settings_with("fedavg"), batch_size=4, local_steps=3)
    whole = trainer_for(settings, "fedavg")
    theta = whole.adapter.vector()
    delta = whole.train("c2", Announcement(1, theta)).delta
    all_at_once = trainer_for(with_federation(settings, micro_batch=9), "fedavg").train("c2", Announcement(1, theta))
    np.testing.assert_array_equal(all_at_once.delta, delta)
    parts = trainer_for(with_federation(settings, micro_batch=3), "fedavg").train("c2", Announcement(1, theta))
    # AdamW's first steps are as long for a tiny gradient as for a large one, hence directions, not digits.
    cosine = np.dot(parts.delta, delta) / np.linalg.norm(parts.delta) / np.linalg.norm(delta)
    assert cosine > 0.995
