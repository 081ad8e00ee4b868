"""LoRA layers trained with fewer passes over the activations than PEFT's own: narrow ones, on a GPU all.

PEFT computes `W x + s B (A x)`: besides the layer's own product two thin ones, a scaling and a sum, each as large as
the layer's output, and as many again backwards. In narrow layers such passes cost more than arithmetic, and thin
products run at a small part of a processor's rate; on a GPU that holds at any width (an H100 takes as long for a
thin product of 1280 inputs as for the layer's whole gradient). `(W + s B A) x` is one product; its gradient is the
layer's own full-rank one, taken through B A. The two agree but for rounding: under autocast the sum is rounded to
bfloat16 anew at each step, as every trained weight is.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 512
"""Up to so many inputs and outputs the full-rank gradient is cheaper for a CPU than the passes that it saves."""


def train_as_one_product(model: nn.Module) -> None:
    """Let LoRA layers of `model` on a frozen `nn.Linear` compute as one product: on a GPU always, on a CPU the narrow
    ones while gradients are taken.

    Without gradients a CPU computes as PEFT, whose own loading of an adapter then gives the same frames to the bit; a
    GPU has few frames to draw there, a client's score, and waits for launches, of which PEFT's way has twice as many.
    Names, weights and files stay PEFT's. A layer that is merged, switched off or holds several adapters computes as
    PEFT does.
    """
    for layer in model.modules():
        if isinstance(layer, Linear) and isinstance(layer.get_base_layer(), nn.Linear):
            # The class and not the layer's own `forward`: layers alike then share what torch.compile makes of one.
            layer.__class__ = OneProductLinear


class OneProductLinear(Linear):
    """PEFT's layer, computed as one product where that is possible and pays."""

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        """As PEFT's."""
        weight = None if rest or named else one_product(self, x)
        return super().forward(x, *rest, **named) if weight is None else F.linear(x, weight, self.base_layer.bias)


def pays(weight: Tensor, device: torch.device) -> bool:
    """Whether one product is the cheaper way on a device, given whether gradients are taken."""
    return device.type != "cpu" or (torch.is_grad_enabled() and max(weight.shape) <= WIDTH)


def one_product(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The weight with which a layer, adapted or not, is one product of x; None where it computes as it always does."""
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
    # In the factors' own precision: autocast would round the product before it is added.
    with torch.autocast(x.device.type, enabled=False):
        return torch.addmm(base.weight.to(a.dtype), b, a, alpha=layer.scaling[name])
