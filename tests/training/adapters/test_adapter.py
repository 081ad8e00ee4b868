"""The adapter as a vector and as PEFT's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from common.errors import PrivFedTalkError
from training.adapters.adapter import Adapter, load_adapted, weights_sha256
from training.model.backbones.tiny import TinyBackbone
from training.model.data import Batch
from training.settings import AdapterSettings


def velocity_of(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    t = torch.tensor([100, 500, 900])
    with torch.no_grad():
        return model(batch.latents, t, batch.speech, batch.reference, batch.motion)


def fresh(backbone: TinyBackbone, folder: Path) -> TinyBackbone:
    if not folder.exists():
        backbone.save(folder)
    return TinyBackbone.load(folder)


def test_a_new_adapter_changes_nothing(backbone: TinyBackbone, batch: Batch) -> None:
    before = velocity_of(backbone, batch)
    adapter = Adapter(backbone, AdapterSettings(rank=2), seed=1)
    torch.testing.assert_close(velocity_of(adapter.backbone, batch), before)


def test_low_rank_update_is_equation_7(backbone: TinyBackbone) -> None:
    adapter = Adapter(backbone, AdapterSettings(rank=2, alpha=6.0), seed=1)
    theta = adapter.vector() + np.random.default_rng(0).normal(0, 0.1, len(adapter)).astype(np.float32)
    adapter.load_vector(theta)
    layer: Any = adapter.backbone.get_submodule("blocks.0.space.to_q")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(5, a.shape[1])
    expected = x @ (layer.base_layer.weight + (6.0 / 2) * b @ a).T
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_vector_round_trip_and_only_lora_is_trained(backbone: TinyBackbone, targets: str) -> None:
    adapter = Adapter(backbone, AdapterSettings(rank=2, targets=targets), seed=1)
    theta = np.random.default_rng(0).normal(size=len(adapter)).astype(np.float32)
    adapter.load_vector(theta)
    np.testing.assert_array_equal(adapter.vector(), theta)
    assert all("lora_" in name for name in adapter.names)


def test_files_are_pefts_and_load_with_peft_alone(backbone: TinyBackbone, batch: Batch, tmp_path: Path) -> None:
    base = tmp_path / "base"
    adapter = Adapter(fresh(backbone, base), AdapterSettings(rank=2), seed=1)
    theta = adapter.vector() + 0.05
    adapter.save(tmp_path / "adapter", theta, {"method": "fedavg"})
    expected = velocity_of(adapter.backbone, batch)
    by_peft = PeftModel.from_pretrained(TinyBackbone.load(base), str(tmp_path / "adapter")).get_base_model()
    by_us = load_adapted(TinyBackbone.load(base), tmp_path / "adapter")
    torch.testing.assert_close(velocity_of(by_peft, batch), expected)
    torch.testing.assert_close(velocity_of(by_us, batch), expected)
    merged = load_adapted(TinyBackbone.load(base), tmp_path / "adapter", merged=True)
    torch.testing.assert_close(velocity_of(merged, batch), expected)
    assert weights_sha256(merged) != adapter.base_sha256
    assert not any("lora" in name for name, _ in merged.named_modules())


def test_another_backbone_is_refused(backbone: TinyBackbone, tmp_path: Path) -> None:
    base = tmp_path / "base"
    adapter = Adapter(fresh(backbone, base), AdapterSettings(rank=2), seed=1)
    adapter.save(tmp_path / "adapter", adapter.vector(), {})
    other = TinyBackbone.load(base)
    with torch.no_grad():
        other.place.add_(0.1)
    with pytest.raises(PrivFedTalkError, match="trained on backbone"):
        load_adapted(other, tmp_path / "adapter")


def test_hash_follows_the_weights(backbone: TinyBackbone, tmp_path: Path) -> None:
    base = tmp_path / "base"
    assert weights_sha256(fresh(backbone, base)) == weights_sha256(fresh(backbone, base))


def effective_weight(adapter: Adapter) -> torch.Tensor:
    layer: Any = adapter.backbone.get_submodule("blocks.0.space.to_q")
    return (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach().clone()


@pytest.mark.parametrize("averaging", ["plain", "ffa"])
def test_only_with_a_frozen_is_the_mean_of_products_the_product_of_means(
    backbone: TinyBackbone, averaging: str
) -> None:
    adapter = Adapter(backbone, AdapterSettings(rank=2, averaging=averaging), seed=1)
    rng = np.random.default_rng(0)
    thetas = [adapter.vector() + rng.normal(0, 0.3, len(adapter)).astype(np.float32) for _ in range(3)]
    products = []
    for theta in thetas:
        adapter.load_vector(theta)
        products.append(effective_weight(adapter))
    adapter.load_vector(np.mean(thetas, axis=0, dtype=np.float32))
    gap = (effective_weight(adapter) - torch.stack(products).mean(0)).abs().max()
    assert gap < 1e-6 if averaging == "ffa" else gap > 1e-2


def test_with_a_frozen_b_alone_travels_and_both_are_saved(backbone: TinyBackbone, batch: Batch, tmp_path: Path) -> None:
    base = tmp_path / "base"
    whole = Adapter(fresh(backbone, base), AdapterSettings(rank=2), seed=1)
    half = Adapter(TinyBackbone.load(base), AdapterSettings(rank=2, averaging="ffa"), seed=1)
    assert all("lora_B" in name for name in half.names)
    assert len(half) == sum(p.numel() for n, p in zip(whole.names, whole.parameters, strict=True) if "lora_B" in n)
    half.save(tmp_path / "adapter", half.vector() + 0.05, {})
    by_peft = PeftModel.from_pretrained(TinyBackbone.load(base), str(tmp_path / "adapter")).get_base_model()
    torch.testing.assert_close(velocity_of(by_peft, batch), velocity_of(half.backbone, batch))
