"""The temporal layers' attention is diffusers', on a GPU by kernels of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from tests.training.small_kinds import small_kind
from training.model.backbones.frame_attention import LENGTHS, FrameAttention
from training.model.backbones.sd15 import Sd15Backbone

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")


def attention(heads: int, head: int) -> Attention:
    torch.manual_seed(0)
    return Attention(heads * head, heads=heads, dim_head=head)


def run(layer: Attention, processor: object, x: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of its sum of squares with respect to x and the weights."""
    layer.set_processor(processor)
    out = layer(x)
    return [out, *torch.autograd.grad(out.float().square().sum(), [x, *layer.parameters()])]


def test_every_temporal_attention_of_sd15_is_one(tmp_path: Path) -> None:
    backbone = small_kind("sd15", tmp_path / "unet")
    assert isinstance(backbone, Sd15Backbone)
    ours = {name for name, each in backbone.unet.attn_processors.items() if isinstance(each, FrameAttention)}
    assert ours == {name for name in backbone.unet.attn_processors if "motion_modules" in name} != set()


def test_off_a_gpu_it_is_diffusers_to_the_bit() -> None:
    layer, x = attention(2, 8), torch.randn(3, LENGTHS[0], 16, requires_grad=True)
    for ours, theirs in zip(run(layer, FrameAttention(), x), run(layer, AttnProcessor2_0(), x), strict=True):
        assert torch.equal(ours, theirs)


@on_a_gpu
@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("head", [8, 40, 160])
def test_on_a_gpu_it_is_no_further_from_the_truth_than_torch(frames: int, head: int) -> None:
    layer = attention(4, head).cuda()
    x = torch.randn(50, frames, 4 * head, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        ours, usual = run(layer, FrameAttention(), x), run(layer, AttnProcessor2_0(), x)
    assert any(not torch.equal(a, b) for a, b in zip(ours, usual, strict=True)), "the kernels were not used"
    truth = run(layer.double(), AttnProcessor2_0(), x.detach().double().requires_grad_())
    for found, torchs, true in zip(ours, usual, truth, strict=True):
        error, allowed = ((each.double() - true).norm() for each in (found, torchs))
        assert error < 1.3 * allowed


@pytest.mark.slow
def test_compiled_by_blocks_it_says_the_same(tmp_path: Path) -> None:
    backbone = small_kind("sd15", tmp_path / "unet")
    shape, frames = backbone.shape, backbone.settings.window
    latents = torch.randn(1, frames, shape.latent_channels, shape.latent_size, shape.latent_size)
    speech = torch.randn(1, frames, shape.speech_steps, shape.speech_dim)
    given = (latents, torch.tensor([500]), speech, latents[:, 0], torch.zeros(1, frames, shape.motion_dim))
    with torch.no_grad():
        plain = backbone(*given)
        backbone.compile_blocks()
        torch.testing.assert_close(backbone(*given), plain, atol=1e-4, rtol=1e-4)
