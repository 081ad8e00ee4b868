"""Self-attention over a window's few frames, as two GPU kernels.

A temporal layer computes tens of thousands of attentions over 16 frames each. The fused kernels of torch use tiles of
64 or 128 queries, which are mostly empty here; they took an eighth of a step of `sd15` on an H100. Here one program
holds the whole attention of one place and head in its registers, forward and backward. Queries, keys and values are
read once, and only they are saved for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


class ShortAttention(torch.autograd.Function):
    """softmax(q k' / sqrt(d)) v of queries, keys and values side by side [N, F, 3 C] -> [N, F, C], `heads` of them."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:
        qkv = qkv.contiguous()
        n, frames, width = qkv.shape
        out = qkv.new_empty(n, frames, width // 3)
        _forward[(n * heads,)](qkv, out, **_sizes(qkv, heads))
        ctx.save_for_backward(qkv)
        ctx.heads = heads
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (qkv,) = ctx.saved_tensors
        out = torch.empty_like(qkv)
        _backward[(len(qkv) * ctx.heads,)](qkv, grad.contiguous(), out, **_sizes(qkv, ctx.heads))
        return out, None


def _sizes(qkv: Tensor, heads: int) -> dict[str, int]:
    """The compile-time sizes of the kernels."""
    _, frames, width = qkv.shape
    head = width // 3 // heads
    padded = max(16, triton.next_power_of_2(head))
    return {"F": frames, "H": heads, "D": head, "P": padded, "num_warps": 1 if padded <= 64 else padded // 64}


@triton.jit
def _scores(qkv, F: tl.constexpr, H: tl.constexpr, D: tl.constexpr, P: tl.constexpr):  # type: ignore[no-untyped-def]
    """A program's queries, keys and values [F, P], the softmax of its scores [F, F], and where they lie."""
    program = tl.program_id(0).to(tl.int64)
    place, head = program // H, program % H
    rows, columns = tl.arange(0, F)[:, None], tl.arange(0, P)[None, :]
    there = place * F * 3 * H * D + rows * 3 * H * D + head * D + columns
    inside = columns < D
    q = tl.load(qkv + there, inside, 0.0)
    k = tl.load(qkv + there + H * D, inside, 0.0)
    v = tl.load(qkv + there + 2 * H * D, inside, 0.0)
    scores = tl.dot(q, tl.trans(k)) * (D**-0.5)
    scores = tl.exp(scores - tl.max(scores, 1)[:, None])
    out = place * F * H * D + rows * H * D + head * D + columns
    return q, k, v, scores / tl.sum(scores, 1)[:, None], there, out, inside


@triton.jit
def _forward(qkv, out, F: tl.constexpr, H: tl.constexpr, D: tl.constexpr, P: tl.constexpr):  # type: ignore[no-untyped-def]
    _q, _k, v, p, _there, place, inside = _scores(qkv, F, H, D, P)
    tl.store(out + place, tl.dot(p.to(v.dtype), v).to(v.dtype), inside)


@triton.jit
def _backward(qkv, grad, out, F: tl.constexpr, H: tl.constexpr, D: tl.constexpr, P: tl.constexpr):  # type: ignore[no-untyped-def]
    q, k, v, p, there, place, inside = _scores(qkv, F, H, D, P)
    do = tl.load(grad + place, inside, 0.0)
    dp = tl.dot(do, tl.trans(v))
    ds = (p * (dp - tl.sum(dp * p, 1)[:, None]) * (D**-0.5)).to(v.dtype)
    tl.store(out + there, tl.dot(ds, k).to(v.dtype), inside)
    tl.store(out + there + H * D, tl.dot(tl.trans(ds), q).to(v.dtype), inside)
    tl.store(out + there + 2 * H * D, tl.dot(tl.trans(p.to(v.dtype)), do).to(v.dtype), inside)
