"""LoRA layers of small width, trained with fewer passes over the activations than PEFT's own.

PEFT computes `W x + s B (A x)`: besides the layer's own product two thin ones, a scaling and a sum, each as large as
the layer's output, and as many again backwards. In narrow layers such passes cost more than arithmetic, and thin
products run at a small part of a processor's rate. `(W + s B A) x` is one product; its gradient is the layer's own
full-rank one, taken through B A. The two agree but for rounding: under autocast the sum is rounded to bfloat16 anew
at each step, as every trained weight is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 512
"""Up to so many inputs and outputs the full-rank gradient is cheaper than the passes that it saves."""


def train_as_one_product(model: nn.Module) -> None:
    """Let every narrow LoRA layer of `model` on a frozen `nn.Linear` compute as one product while gradients are taken.

    Without gradients PEFT computes, so that its own loading of an adapter gives the same frames to the bit. Names,
    weights and files stay PEFT's. A layer that is merged, switched off or holds several adapters computes as PEFT does.
    """
    for layer in model.modules():
        if not isinstance(layer, Linear):
            continue
        base = layer.get_base_layer()
        if isinstance(base, nn.Linear) and max(base.weight.shape) <= WIDTH:
            layer.forward = partial(_forward, layer, layer.forward)


def _forward(layer: Linear, usual: Callable[..., Tensor], x: Tensor, *rest: Any, **named: Any) -> Tensor:
    base, active = layer.get_base_layer(), layer.active_adapters
    unusual = rest or named or layer.disable_adapters or layer.merged or layer.lora_variant or len(active) != 1
    if unusual or not torch.is_grad_enabled() or not isinstance(layer.lora_dropout[active[0]], nn.Identity):
        return usual(x, *rest, **named)
    name = active[0]
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    # In the factors' own precision: autocast would round the product before it is added.
    with torch.autocast(x.device.type, enabled=False):
        weight = torch.addmm(base.weight.to(a.dtype), b, a, alpha=layer.scaling[name])
    return F.linear(x, weight, base.bias)
