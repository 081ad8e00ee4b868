"""The product of a linear layer and its LoRA factors with fewer passes over the activations than PEFT's own.

PEFT computes `W x + (B A x) s` as two products, a scaling and a sum, each a tensor as large as the layer's output, and
as many again backwards. On networks of small width such passes cost as much as the products. Here the second product
is added into the first, the scale lies on the small factor, and no gradient is formed for what is frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional as F


class LoraProduct(torch.autograd.Function):
    """y = x W^T + bias + s (x A^T) B^T for x [..., in], W [out, in], A [r, in], B [out, r], all of one dtype.

    W and bias are frozen: they get no gradient. The gradient is made of differentiable operations on the inputs, so
    that it can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        rows = x.reshape(-1, x.shape[-1])
        y = F.linear(rows, weight, bias)
        y.addmm_(rows @ a.t(), (scale * b).t())
        return y.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        of_x, _, _, of_a, of_b, _ = ctx.needs_input_grad
        rows = x.reshape(-1, x.shape[-1])
        y = gradients[0].reshape(-1, len(weight))
        inner = y @ (ctx.scale * b)
        x_bar = torch.addmm(y @ weight, inner, a).view_as(x) if of_x else None
        a_bar = inner.t() @ rows if of_a else None
        b_bar = ctx.scale * (y.t() @ (rows @ a.t())) if of_b else None
        return x_bar, None, None, a_bar, b_bar, None


def quicken(model: nn.Module) -> None:
    """Let every plain LoRA layer on a frozen `nn.Linear` compute by `LoraProduct`; results agree but for rounding.

    Names, weights and files stay PEFT's. A layer that is merged, switched off or holds several adapters computes as
    PEFT does.
    """
    for layer in model.modules():
        if isinstance(layer, Linear) and isinstance(layer.get_base_layer(), nn.Linear):
            layer.forward = partial(_forward, layer, layer.forward)


def _forward(layer: Linear, usual: Callable[..., Tensor], x: Tensor, *rest: Any, **named: Any) -> Tensor:
    base, active = layer.get_base_layer(), layer.active_adapters
    unusual = rest or named or layer.disable_adapters or layer.merged or layer.lora_variant or len(active) != 1
    if unusual or base.weight.requires_grad or not isinstance(layer.lora_dropout[active[0]], nn.Identity):
        return usual(x, *rest, **named)
    kind = x.device.type
    cast = torch.is_autocast_enabled(kind) and x.dtype != torch.float64  # which autocast leaves as it is
    dtype = torch.get_autocast_dtype(kind) if cast else x.dtype
    bias = None if base.bias is None else base.bias.to(dtype)
    a, b = (factor[active[0]].weight.to(dtype) for factor in (layer.lora_A, layer.lora_B))
    return LoraProduct.apply(x.to(dtype), base.weight.to(dtype), bias, a, b, layer.scaling[active[0]])
