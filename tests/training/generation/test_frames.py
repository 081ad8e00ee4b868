"""Sampling: windows cover and blend, seeds decide, speech is heard where it is spoken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PrivFedTalkError
from training.generation.frames import Generator, blending_weights, shift_at, window_starts
from training.model.autoencoders.small import SmallVae
from training.model.backbones.tiny import TinyBackbone
from training.settings import GenerationSettings, VaeSettings


@given(frames=st.integers(8, 200), overlap=st.integers(0, 7), step=st.integers(0, 50))
def test_windows_cover_every_frame_and_weights_sum_to_one(frames: int, overlap: int, step: int) -> None:
    starts = window_starts(frames, 8, overlap, shift_at(step, 8, overlap))
    total = torch.zeros(frames)
    for start, weight in zip(starts, blending_weights(starts, frames, 8), strict=True):
        total[start : start + 8] += weight
    torch.testing.assert_close(total, torch.ones(frames))


def test_windows_lie_elsewhere_at_every_step_before_they_come_back() -> None:
    assert [shift_at(step, 8, 4) for step in range(4)] == [0, 2, 1, 3]
    assert {shift_at(step, 16, 4) for step in range(20)} == set(range(12))
    assert window_starts(8, 8, 4, 2) == [0]  # a clip of one window has no joints, and is what it would be alone


@pytest.fixture
def generator(backbone: TinyBackbone) -> Generator:
    vae = SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).eval()
    return Generator(backbone, vae, GenerationSettings(steps=3, overlap=3), shared_noise=0.5)


@pytest.mark.parametrize("frames", [1, 5, 6, 13])
def test_any_length(generator: Generator, frames: int) -> None:
    shape = generator.backbone.shape
    out = generator.frames(torch.zeros(4, 8, 8), torch.randn(frames, shape.speech_steps, shape.speech_dim), seed=1)
    assert out.shape == (frames, 64, 64, 3)


def test_seed_decides(generator: Generator) -> None:
    shape = generator.backbone.shape
    speech = torch.randn(10, shape.speech_steps, shape.speech_dim)
    first, again, other = (generator.latents(torch.zeros(4, 8, 8), speech, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_speech_moves_the_frames_near_it(generator: Generator) -> None:
    shape = generator.backbone.shape
    speech = torch.randn(30, shape.speech_steps, shape.speech_dim)
    changed = speech.clone()
    changed[2] += 3
    apart = [generator.latents(torch.zeros(4, 8, 8), s, seed=1) for s in (speech, changed)]
    difference = (apart[0] - apart[1]).abs().mean(dim=(1, 2, 3))
    assert difference[2] == difference.max()
    assert difference[-6:].max() < 0.05 * difference[2]


def test_a_model_whose_frames_are_no_numbers_shows_no_black_ones(generator: Generator) -> None:
    shape = generator.backbone.shape
    next(generator.backbone.parameters()).data.fill_(float("nan"))
    speech = torch.randn(5, shape.speech_steps, shape.speech_dim)
    with pytest.raises(PrivFedTalkError, match="not finite"):
        next(generator.stream(torch.zeros(4, 8, 8), lambda start, stop: speech[start:stop], 5, seed=1))
