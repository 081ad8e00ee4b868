"""Attention of a motion UNet's temporal layers over a window's frames, in fewer GPU kernels.

Queries, keys and values are one product, and the attention uses kernels for few frames (`short_attention`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor
from torch.nn import functional as F

from training.model.lora_layers import one_product

HAS_TRITON = find_spec("triton") is not None
HALVES = (torch.bfloat16, torch.float16)
LENGTHS = (16, 32)
"""Numbers of frames that the kernels support."""


class FrameAttention:
    """A processor for diffusers' `Attention` [N, F, C] -> [N, F, C].

    It equals diffusers' own processor up to rounding; without gradients, or on a CPU, it is that processor.
    """

    def __init__(self) -> None:
        self._default = AttnProcessor2_0()

    def __call__(self, attn: Attention, hidden_states: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Arguments and result are those of diffusers' processors."""
        weight = None if rest or any(v is not None for v in named.values()) else _stacked_weights(attn, hidden_states)
        if weight is None:
            return self._default(attn, hidden_states, *rest, **named)
        from training.model.backbones.short_attention import ShortAttention

        attended = ShortAttention.apply(F.linear(hidden_states, weight), attn.heads)
        return attn.to_out[1](attn.to_out[0](attended))


def _stacked_weights(attn: Attention, x: Tensor) -> Tensor | None:
    """The stacked weights [3 C, C] of queries, keys and values; None where the kernels cannot be used on x."""
    if not (HAS_TRITON and x.is_cuda and torch.is_grad_enabled() and x.shape[1] in LENGTHS):
        return None
    if (torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype) not in HALVES:
        return None
    weights = [one_product(layer, x) for layer in (attn.to_q, attn.to_k, attn.to_v)]
    return None if any(weight is None for weight in weights) else torch.cat([w for w in weights if w is not None])
