"""How the temporal layers of a motion UNet attend over a window's frames: queries, keys and values in one product, and
on a GPU the attention by kernels made for so few frames."""

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
"""Frames that the kernels take."""


class FrameAttention:
    """diffusers' processor of an `Attention` [N, F, C] -> [N, F, C]; the same but for rounding, and the same to the
    bit without gradients or off a GPU."""

    def __init__(self) -> None:
        self._usual = AttnProcessor2_0()

    def __call__(self, attn: Attention, hidden_states: Tensor, *rest: Any, **named: Any) -> Tensor:
        """See diffusers' processors: what they take, they give."""
        weight = None if rest or any(v is not None for v in named.values()) else _side_by_side(attn, hidden_states)
        if weight is None:
            return self._usual(attn, hidden_states, *rest, **named)
        from training.model.backbones.short_attention import ShortAttention

        attended = ShortAttention.apply(F.linear(hidden_states, weight), attn.heads)
        return attn.to_out[1](attn.to_out[0](attended))


def _side_by_side(attn: Attention, x: Tensor) -> Tensor | None:
    """The weights [3 C, C] of queries, keys and values, where the kernels can be used on x."""
    if not (HAS_TRITON and x.is_cuda and torch.is_grad_enabled() and x.shape[1] in LENGTHS):
        return None
    if (torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype) not in HALVES:
        return None
    weights = [one_product(layer, x) for layer in (attn.to_q, attn.to_k, attn.to_v)]
    return None if any(weight is None for weight in weights) else torch.cat([w for w in weights if w is not None])
