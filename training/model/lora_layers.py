"""LoRA layers that need fewer passes over the activations than PEFT's: on a CPU the narrow layers, on a GPU all.

PEFT computes `W x + s B (A x)`: beside the layer's own product two thin ones, a scaling and a sum, each over tensors as
large as the layer's output, and as many again in the backward pass. In narrow layers such passes cost more than the
arithmetic, and thin products run at a small part of a processor's rate; on a GPU that holds for every width (an H100
takes as long for a thin product of 1280 inputs as for the layer's whole gradient). `(W + s B A) x` is one product; its
gradient is the full-rank gradient of the weight, propagated through B A. Both forms agree up to rounding: under
autocast the sum is rounded to bfloat16 at each step, like every trained weight.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 512
"""Largest number of inputs or outputs at which one product with its full-rank gradient is faster on a CPU."""


def train_as_one_product(model: nn.Module) -> None:
    """Make LoRA layers of `model` on a frozen `nn.Linear` compute one product: on a GPU always, on a CPU the narrow
    layers while gradients are computed.

    Without gradients, a CPU computes as PEFT does, so that an adapter loaded by PEFT gives bitwise the same frames. A
    GPU computes few frames without gradients (a client's score) and is bound by kernel launches, of which PEFT's form
    has twice as many. Names, weights and files stay PEFT's. A layer that is merged, switched off or holds several
    adapters computes as PEFT does.
    """
    for layer in model.modules():
        if isinstance(layer, Linear) and isinstance(layer.get_base_layer(), nn.Linear):
            # Changing the class, not the layer's own `forward`, lets equal layers share what torch.compile makes.
            layer.__class__ = OneProductLinear


class OneProductLinear(Linear):
    """PEFT's layer, computed as one product where that is possible and faster."""

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        """As PEFT's."""
        weight = None if rest or named else one_product(self, x)
        return super().forward(x, *rest, **named) if weight is None else F.linear(x, weight, self.base_layer.bias)


def pays(weight: Tensor, device: torch.device) -> bool:
    """Whether one product is faster on a device, with or without gradients as torch is set now."""
    return device.type != "cpu" or (torch.is_grad_enabled() and max(weight.shape) <= WIDTH)


def one_product(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The weight of a layer (adapted or not) as one product with x; None if the layer must compute in its own way."""
    if type(layer) is nn.Linear:
        return layer.weight
    if not isinstance(layer, OneProductLinear):
        return None
    base, active = layer.get_base_layer(), layer.active_adapters
    if layer.disable_adapters or layer.merged or layer.lora_variant or len(active) != 1:
        return None
    if not pays(base.weight, x.device) or not isinstance(layer.lora_dropout[active[0]], nn.Identity):
        return None
    name = active[0]
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    # In the factors' own precision: autocast would round B A before it is added to W.
    with torch.autocast(x.device.type, enabled=False):
        return torch.addmm(base.weight.to(a.dtype), b, a, alpha=layer.scaling[name])
