"""Narrow LoRA layers as one product: PEFT's own values and gradients, once and twice differentiated."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from training.model.lora_layers import WIDTH, pays, train_as_one_product


class Two(nn.Module):
    def __init__(self, middle: int = 10) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, middle), nn.Linear(middle, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x)))


def adapted(dtype: torch.dtype = torch.float64, dropout: float = 0.0, middle: int = 10) -> tuple[PeftModel, PeftModel]:
    """The same two layers and LoRA weights, computed by PEFT and by us."""
    torch.manual_seed(3)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["inner", "outer"], lora_dropout=dropout)
    usual = get_peft_model(Two(middle), config)
    for name, parameter in usual.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    usual.to(dtype)
    quick = copy.deepcopy(usual)
    train_as_one_product(quick)
    return usual, quick


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def products(model: nn.Module, x: Tensor) -> int:
    """How many matrix products one call takes."""
    with torch.profiler.profile() as told:
        model(x)
    return sum(row.count for row in told.key_averages() if row.key in ("aten::mm", "aten::addmm"))


def test_values_and_gradients_are_pefts() -> None:
    usual, quick = adapted()
    x = torch.randn(5, 2, 6, dtype=torch.float64)
    torch.testing.assert_close(quick(x), usual(x))
    expected, found = gradients(usual, x), gradients(quick, x)
    assert expected.keys() == found.keys() and len(found) == 4
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_without_gradients_peft_computes_to_the_bit() -> None:
    usual, quick = adapted(torch.float32)
    x = torch.randn(50, 6)
    with torch.no_grad():
        assert torch.equal(quick(x), usual(x))
        assert products(quick, x) == 6  # two layers' own, and their factors'


def test_only_narrow_layers_are_one_product() -> None:
    x = torch.randn(5, 6, dtype=torch.float64)
    _, narrow = adapted(middle=WIDTH)
    _, wide = adapted(middle=WIDTH + 1)
    assert products(narrow, x) == 4  # B A added to W, and the layer's
    assert products(wide, x) == 6


def test_it_pays_on_a_gpu_always_on_a_cpu_for_narrow_layers_in_training() -> None:
    narrow, wide = torch.empty(4, WIDTH), torch.empty(4, WIDTH + 1)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert pays(narrow, cpu) and not pays(wide, cpu)
    assert pays(narrow, gpu) and pays(wide, gpu)
    with torch.no_grad():
        assert not pays(narrow, cpu) and not pays(wide, cpu)
        assert pays(narrow, gpu) and pays(wide, gpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")
def test_on_a_gpu_wide_layers_are_one_product_too() -> None:
    usual, quick = (model.cuda() for model in adapted(middle=WIDTH + 1))
    x = torch.randn(5, 6, dtype=torch.float64, device="cuda")
    expected, found = gradients(usual, x), gradients(quick, x)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    assert products(quick, x) == 4
    with torch.no_grad():  # a client's score: launches are what it waits for
        torch.testing.assert_close(quick(x), usual(x))
        assert products(quick, x) == 4


def test_the_gradient_can_be_differentiated_again() -> None:
    _, quick = adapted()
    factors = {name: p.detach().clone().requires_grad_() for name, p in quick.named_parameters() if p.requires_grad}
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)

    def product(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(quick, dict(zip(factors, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(product, (x, *factors.values()))
    assert torch.autograd.gradgradcheck(product, (x, *factors.values()))


def test_autocast_gives_its_own_type() -> None:
    usual, quick = adapted(torch.float32)
    x = torch.randn(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        half, expected = quick(x), usual(x)
    assert half.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), quick(x), rtol=0.05, atol=0.1)
    usual, quick = adapted()
    with torch.autocast("cpu", torch.bfloat16):  # it leaves double precision alone, and so do we
        torch.testing.assert_close(quick(x.double()), usual(x.double()))


def test_what_is_switched_off_merged_or_dropped_out_is_left_to_peft() -> None:
    usual, quick = adapted()
    x = torch.randn(3, 6, dtype=torch.float64)
    with usual.disable_adapter(), quick.disable_adapter():
        torch.testing.assert_close(quick(x), usual(x))
    usual.merge_adapter()
    quick.merge_adapter()
    torch.testing.assert_close(quick(x), usual(x))
    usual, quick = adapted(dropout=0.5)
    found = []
    for model in (usual.train(), quick.train()):
        torch.manual_seed(0)
        found.append(model(x))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("frozen", ["lora_A", "lora_B"])
def test_a_frozen_factor_gets_no_gradient(frozen: str) -> None:
    _, quick = adapted()
    for name, parameter in quick.named_parameters():
        if frozen in name:
            parameter.requires_grad_(False)
    found = gradients(quick, torch.randn(3, 6, dtype=torch.float64))
    assert found and not any(frozen in name for name in found)
