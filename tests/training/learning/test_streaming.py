"""Long clips: chunks give what the whole would, joints of windows do not show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.generation import frames as generation
from training.generation.frames import Generator, chunks_of
from training.model.autoencoders.small import SmallVae
from training.model.backbones.tiny import TinyBackbone
from training.model.device import full_precision
from training.settings import GenerationSettings, Sampler, VaeSettings

FRAMES = 61


@given(
    frames=st.integers(8, 900),
    window=st.integers(2, 16),
    overlap=st.integers(0, 15),
    steps=st.integers(1, 9),
    chunk=st.integers(1, 300),
)
def test_chunks_give_every_frame_once_and_windows_keep_their_places(
    frames: int, window: int, overlap: int, steps: int, chunk: int
) -> None:
    frames, overlap = max(frames, window), min(overlap, window - 1)
    stride = window - overlap
    given: list[int] = []
    for kept, around in chunks_of(frames, window, overlap, steps, chunk):
        given += kept
        assert set(kept) <= set(around) <= set(range(frames))
        assert len(around) >= window
        assert around.start % stride == 0
        assert around.stop == frames or (around.stop - window) % stride == 0
        assert around.start == 0 or kept.start - around.start >= window
        assert around.stop == frames or around.stop - kept.stop >= window
    assert given == list(range(frames))


def generator_for(backbone: TinyBackbone, **settings: object) -> Generator:
    vae = SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).eval()
    return Generator(backbone, vae, GenerationSettings(**{"steps": 3, "overlap": 3, **settings}), shared_noise=0.5)


def smooth_speech(generator: Generator, frames: int = FRAMES) -> torch.Tensor:
    shape, times = generator.backbone.shape, torch.arange(frames)[:, None, None]
    phases = torch.rand(shape.speech_steps, shape.speech_dim, generator=torch.Generator().manual_seed(3))
    return torch.sin(times / 5 + 6.28 * phases)


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_chunks_come_out_as_if_all_had_been_sampled_together(backbone: TinyBackbone, sampler: Sampler) -> None:
    generator = generator_for(backbone, sampler=sampler)
    speech, reference = smooth_speech(generator), torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))

    def stream(chunk: int) -> np.ndarray:
        return np.stack(list(generator.stream(reference, lambda a, b: speech[a:b], FRAMES, seed=7, chunk=chunk)))

    with full_precision():
        whole, cut = stream(1000), stream(12)
    assert whole.shape == (FRAMES, 64, 64, 3)
    assert np.abs(whole.astype(int) - cut).max() <= 1
    # The test can fail: without the frames around it a chunk's edges are others.
    with full_precision():
        alone = np.stack(list(generator.stream(reference, lambda a, b: speech[12 + a : 12 + b], 12, seed=7)))
    assert np.abs(whole[12:24].astype(int) - alone).max() > 1


def test_progress_comes_between_the_chunks_and_adds_up_to_every_frame(backbone: TinyBackbone) -> None:
    generator = generator_for(backbone)
    told: list[float] = []
    speech, reference = smooth_speech(generator), torch.zeros(4, 8, 8)
    stream = generator.stream(reference, lambda a, b: speech[a:b], FRAMES, seed=1, chunk=30, sampled=told.append)
    next(stream)
    assert len(told) >= generator.settings.steps
    assert sum(told) == pytest.approx(30)
    assert len(list(stream)) == FRAMES - 1
    assert sum(told) == pytest.approx(FRAMES)


@pytest.mark.parametrize("frames", [1, 5, 6, 13])
def test_a_stream_has_any_length(backbone: TinyBackbone, frames: int) -> None:
    generator = generator_for(backbone)
    speech = smooth_speech(generator, frames)
    assert len(list(generator.stream(torch.zeros(4, 8, 8), lambda a, b: speech[a:b], frames, seed=1))) == frames


def joint_ratio(frames: np.ndarray, window: int, overlap: int, steps: int) -> float:
    """Mean change between frames where a window of the last step begins or ends, over the mean change elsewhere."""
    stride = window - overlap
    deltas = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
    after = np.arange(1, len(frames)) - generation.shift_at(steps - 1, window, overlap)
    at_joint = (after % stride == 0) | ((after - window) % stride == 0)
    return float(deltas[at_joint].mean() / deltas[~at_joint].mean())


class Leaning(TinyBackbone):
    """Predicts another thing at the start of a window than at its end: neighbours that never agree by themselves."""

    def forward(self, z_t: Tensor, t: Tensor, speech: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        lean = torch.linspace(-3, 3, z_t.shape[1])[None, :, None, None, None]
        return super().forward(z_t, t, speech, reference, motion) + lean


def ratio_with(backbone: TinyBackbone, overlap: int) -> float:
    generator = generator_for(backbone, overlap=overlap)
    latents = generator.latents(torch.zeros(4, 8, 8), smooth_speech(generator, 120), seed=2)
    return joint_ratio(latents.permute(0, 2, 3, 1).numpy(), backbone.settings.window, overlap, generator.settings.steps)


def test_joints_of_windows_do_not_show(backbone: TinyBackbone) -> None:
    """Changes are as large where windows meet as elsewhere."""
    assert ratio_with(backbone, 3) == pytest.approx(1, abs=0.1)


def test_windows_that_disagree_are_brought_together(backbone: TinyBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where windows neither overlap nor move, the measure sees their seams; overlap takes some of them, both all."""
    backbone.__class__ = Leaning
    joined, moved = ratio_with(backbone, 3), ratio_with(backbone, 0)
    monkeypatch.setattr(generation, "shift_at", lambda step, window, overlap: 0)
    seams, overlapping = ratio_with(backbone, 0), ratio_with(backbone, 3)
    assert seams > 3
    assert overlapping - 1 < (seams - 1) / 5
    assert moved - 1 < (seams - 1) / 5
    assert joined == pytest.approx(1, abs=0.05)
