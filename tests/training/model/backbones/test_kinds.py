"""What holds of every kind of backbone: one contract, files that give it back, LoRA, checkpointing, honest units."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from common.errors import CorruptFileError, PrivFedTalkError
from tests.training.small_kinds import KINDS, small_kind
from tests.training.small_models import SHAPE
from training.adapters.adapter import Adapter, load_adapted
from training.model.backbones.interface import Backbone
from training.model.backbones.kinds import load_backbone, untrained_like
from training.model.data import Batch
from training.model.objective import Draw, local_objective
from training.settings import AdapterSettings, BackboneSettings, ObjectiveSettings

T = torch.tensor([100, 500, 900])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    return small_kind(request.param, tmp_path / "unet")


def predict(model: Backbone, batch: Batch, **changes: torch.Tensor) -> torch.Tensor:
    inputs = {"z_t": batch.latents, "speech": batch.speech, "reference": batch.reference, "motion": batch.motion}
    with torch.no_grad():
        return model(t=T, **{**inputs, **changes})


def test_every_condition_changes_the_prediction(kind: Backbone, batch: Batch) -> None:
    before = predict(kind, batch)
    assert before.shape == batch.latents.shape and before.dtype == torch.float32
    for name in ("speech", "reference", "motion"):
        assert not torch.allclose(predict(kind, batch, **{name: getattr(batch, name) + 0.5}), before, atol=1e-4), name


def test_saved_and_loaded_it_is_the_same_and_frozen(kind: Backbone, batch: Batch, tmp_path: Path) -> None:
    kind.residual_std.fill_(1.3)
    kind.save(tmp_path / "saved")
    loaded = load_backbone(tmp_path / "saved")
    assert type(loaded) is type(kind) and loaded.settings == kind.settings and loaded.shape == kind.shape
    assert loaded.residual_std.unique().tolist() == [pytest.approx(1.3)]
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(predict(loaded, batch), predict(kind, batch))


def test_what_was_saved_needs_no_source(tmp_path: Path, batch: Batch) -> None:
    model = small_kind("sd15", tmp_path / "unet")
    model.save(tmp_path / "saved")
    for file in (tmp_path / "unet").iterdir():
        file.unlink()
    assert torch.equal(predict(load_backbone(tmp_path / "saved"), batch), predict(model, batch))


def test_untrained_is_the_same_network_in_the_same_units_with_other_weights(kind: Backbone) -> None:
    kind.motion_std.fill_(0.2)
    random = untrained_like(kind)
    ours, theirs = kind.state_dict(), random.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {n: v.shape for n, v in theirs.items()}
    assert torch.equal(random.motion_std, kind.motion_std)
    same = sum(value.numel() for name, value in ours.items() if torch.equal(value, theirs[name]))
    assert same < 0.2 * sum(value.numel() for value in ours.values())


def test_checkpointing_keeps_less_and_gives_the_same_gradients(kind: Backbone, batch: Batch) -> None:
    objective = ObjectiveSettings()
    draw = Draw.sample(batch.latents, objective, torch.Generator().manual_seed(0))
    gradients, kept = [], []
    for enable in (False, True, False):
        kind.enable_gradient_checkpointing(enable)
        kind.zero_grad()
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            loss = local_objective(kind, batch, draw, objective).total
            kept.append(sum(sizes))
        loss.backward()
        gradients.append([p.grad.clone() for p in kind.parameters() if p.grad is not None])
    assert kept[1] < 0.6 * kept[0] and kept[2] == kept[0]
    for plain, again in zip(gradients[0], gradients[1], strict=True):
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_lora_on_the_named_layers_changes_nothing_at_first_and_loads_by_peft_alone(
    kind: Backbone, batch: Batch, targets: str, tmp_path: Path
) -> None:
    kind.save(tmp_path / "base")
    before = predict(kind, batch)
    adapter = Adapter(kind, AdapterSettings(rank=2, alpha=6.0, targets=targets), seed=1)
    torch.testing.assert_close(predict(adapter.backbone, batch), before, atol=1e-6, rtol=1e-6)
    wrapped = {name.partition(".lora_A")[0] for name in adapter.names if "lora_A" in name}
    allowed = kind.attention_targets + (kind.other_targets if targets == "all" else ())
    assert all(any(name.endswith(f".{target}") for target in allowed) for name in wrapped)
    assert all(any(name.endswith(f".{target}") for name in wrapped) for target in allowed)  # no target is idle

    theta = adapter.vector() + np.random.default_rng(0).normal(0, 0.05, len(adapter)).astype(np.float32)
    adapter.save(tmp_path / "adapter", theta, {})
    expected = predict(adapter.backbone, batch)
    assert not torch.allclose(expected, before, atol=1e-4)
    by_peft = PeftModel.from_pretrained(load_backbone(tmp_path / "base"), str(tmp_path / "adapter"))
    assert torch.equal(predict(by_peft.get_base_model(), batch), expected)
    assert torch.equal(predict(load_adapted(load_backbone(tmp_path / "base"), tmp_path / "adapter"), batch), expected)


@pytest.mark.parametrize("diffused", ["residual", "latent"])
def test_what_is_diffused_comes_back_as_latents(diffused: str, batch: Batch, tmp_path: Path) -> None:
    model = small_kind("tiny", tmp_path, diffused=diffused)
    model.residual_std.fill_(0.7)
    z0 = model.to_diffused(batch.latents, batch.reference)
    torch.testing.assert_close(model.to_latents(z0, batch.reference), batch.latents)
    follows_the_reference = not torch.equal(model.to_diffused(batch.latents, batch.reference + 1), z0)
    assert follows_the_reference == (diffused == "residual")


def test_epsilon_on_a_schedule_that_ends_in_pure_noise_is_refused() -> None:
    with pytest.raises(ValidationError, match="stable_diffusion"):
        BackboneSettings(prediction="epsilon")
    assert BackboneSettings(prediction="epsilon", schedule="stable_diffusion").prediction == "epsilon"


def test_a_folder_without_a_backbone_or_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="holds no backbone"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"settings": {"kind": "huge"}, "shape": SHAPE.model_dump()}))
    with pytest.raises(CorruptFileError, match="'huge'"):
        load_backbone(tmp_path)
