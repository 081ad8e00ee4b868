"""L_sync by the active-speaker network: what it sees and hears, its gradient, and what real lips are worth to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.weights import registry as weights
from preparation.crops.active_speaker import LightASD, mfcc, view
from preparation.crops.crop import load_crop
from preparation.pipeline import prepare_clients, register_corpus
from preparation.settings import CorpusSettings, PreparationSettings, QualitySettings, SpeakerRule
from tests.training.small_models import SHAPE, make_clip
from training.adapters.adapter import Adapter
from training.model.backbones.tiny import TinyBackbone
from training.model.data import Batch, collate, window
from training.model.frozen.pixel_terms import PixelTerms
from training.model.frozen.speaking import SpeakingTerm, faces
from training.model.frozen.terms import Decoded, Scene
from training.model.objective import Draw, local_objective
from training.settings import AdapterSettings, DecodedSettings, ObjectiveSettings, SyncTermSettings

SPEAKING = ObjectiveSettings(sync=SyncTermSettings(network="light_asd", weight=0.5))
LOW, HIGH = 100, 900
"""Timesteps with abar 0.97 and 0.02."""


def batch_of(count: int, frames: int = 6) -> Batch:
    rng = np.random.default_rng(3)
    clips = [
        replace(make_clip(seed), cepstra=torch.from_numpy(rng.normal(0, 10, (20, 4, 13)).astype(np.float32)))
        for seed in range(count)
    ]
    return collate([window(clip, 2, frames) for clip in clips])


@pytest.fixture
def term() -> SpeakingTerm:
    torch.manual_seed(6)
    return SpeakingTerm(LightASD())


@pytest.fixture
def decoder() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(SHAPE.latent_channels, 3 * 64, 3, padding=1), nn.PixelShuffle(8), nn.Sigmoid())
    return layers.requires_grad_(False)


def draw_at(batch: Batch, *timesteps: int) -> Draw:
    eps = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(4)).to(batch.latents)
    return Draw(eps, torch.tensor(timesteps))


@pytest.mark.parametrize("size", [128, 256, 512])
def test_it_sees_what_the_filter_of_clips_sees(size: int) -> None:
    import cv2

    coarse = np.random.default_rng(size).integers(0, 256, (12, 12, 3), np.uint8)
    crop = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    pixels = torch.from_numpy(crop).permute(2, 0, 1)[None, None] / 255
    difference = np.abs(faces(pixels)[0, 0].numpy() - view(crop))
    assert difference.max() < (2 if size < 512 else 6)  # where pictures shrink by more than two, both blur in their way
    assert difference.mean() < 0.6


def test_it_hears_the_sound_of_the_frames_it_sees() -> None:
    sound = torch.arange(20.0)[:, None, None].expand(20, 4, 13)
    clip = replace(make_clip(0), cepstra=sound)
    batch = collate([window(clip, 5, 6), window(clip, 0, 6)])
    assert batch.cepstra is not None
    assert batch.cepstra[:, :, 0, 0].tolist() == [[5, 6, 7, 8, 9, 10], [0, 1, 2, 3, 4, 5]]
    assert batch.part(slice(1, 2)).cepstra is not None
    assert collate([window(clip, 5, 6), window(make_clip(1), 0, 6)]).cepstra is None


def test_the_loss_is_the_networks_weighed_by_what_it_says_of_the_truth(term: SpeakingTerm) -> None:
    torch.manual_seed(0)
    generated, true = torch.rand(2, 4, 3, 64, 64), torch.rand(2, 4, 3, 64, 64)
    cepstra = torch.randn(2, 4, 4, 13)
    scene = Scene(generated, true, cepstra)
    loss = term(Decoded(lambda pixels: pixels, generated, true, generated[:, 0], scene))
    with torch.no_grad():
        heard = term.network.hear(cepstra.flatten(1, 2))
        of = {
            name: term.network.fuse(term.network.see(faces(x)), heard)
            for name, x in vars(scene).items()
            if x.dim() == 5
        }
    by_hand = (of["true"].sigmoid() * -of["generated"].sigmoid().log()).mean(1)
    assert loss.shape == (2,)
    torch.testing.assert_close(loss.detach(), by_hand)


def test_gradient_by_the_adapter_is_that_of_finite_differences(term: SpeakingTerm, decoder: nn.Module) -> None:
    """Through crop, decoder, diffusion and backbone, in float64, along random directions in the adapter."""
    from tests.training.small_models import small_backbone

    adapter = Adapter(small_backbone().double(), AdapterSettings(rank=2), seed=0)
    backbone = adapter.backbone
    generator = torch.Generator().manual_seed(8)
    for parameter in adapter.parameters:
        parameter.data = parameter.data.double()
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    term.network.head.weight.data *= 100  # random weights hardly look at the face
    terms = PixelTerms(decoder.double(), {"sync": term.double()}, DecodedSettings(frames=2))
    batch = batch_of(2, frames=4).changed(torch.Tensor.double)
    draw = draw_at(batch, LOW, HIGH)

    def loss() -> Tensor:
        return local_objective(backbone, batch, draw, SPEAKING, terms).pixel["sync"]

    gradients = torch.autograd.grad(loss(), adapter.parameters)
    for _ in range(2):
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in adapter.parameters]
        slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        step, values = 1e-7, []
        for sign in (1, -2, 1):
            for parameter, along in zip(adapter.parameters, direction, strict=True):
                parameter.data += sign * step * along
            values.append(float(loss().detach()))
        measured = (values[0] - values[1]) / (2 * step)
        assert measured == pytest.approx(float(slope), rel=1e-4)
        assert abs(measured) > 1e-6


def test_it_counts_at_low_noise_only(backbone: TinyBackbone, term: SpeakingTerm, decoder: nn.Module) -> None:
    decoded = []

    def decode(latents: Tensor) -> Tensor:
        decoded.append(len(latents))
        return decoder(latents)

    batch = batch_of(2)
    terms = PixelTerms(decode, {"sync": term}, DecodedSettings(frames=2))
    assert local_objective(backbone, batch, draw_at(batch, HIGH, HIGH), SPEAKING, terms).pixel["sync"].item() == 0
    assert decoded == []
    both = local_objective(backbone, batch, draw_at(batch, LOW, HIGH), SPEAKING, terms)
    assert decoded == [6, 6]  # every frame of the window that is inside, generated and true
    torch.testing.assert_close(both.total, both.denoising + 0.05 * both.tdc + 0.5 * both.pixel["sync"])
    assert both.pixel["sync"] > 0


def test_shards_without_the_sound_are_refused_by_name(
    backbone: TinyBackbone, batch: Batch, term: SpeakingTerm, decoder: nn.Module
) -> None:
    terms = PixelTerms(decoder, {"sync": term}, DecodedSettings())
    with pytest.raises(PrivFedTalkError, match="its clips' shards hold no cepstra") as caught:
        local_objective(backbone, batch, draw_at(batch, HIGH, HIGH, HIGH), SPEAKING, terms)
    assert "preparation.shards.cepstra=true" in caught.value.remedy


def test_recurrence_computes_the_same_in_the_mode_that_gives_gradients_on_a_gpu(term: SpeakingTerm) -> None:
    seen, heard = torch.randn(1, 6, 128), torch.randn(1, 6, 128)
    assert term.network.forth.training and not term.network.training
    there = term.network.fuse(seen, heard)
    torch.testing.assert_close(term.network.eval().fuse(seen, heard), there)


@pytest.mark.slow(minutes=0.1)
def test_real_lips_that_move_with_their_sound_cost_least(
    clips_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of a real clip, whose crops stand for what was decoded: itself, held still, and with later sound."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    corpus, run = tmp_path / "corpus", RunFolder(tmp_path / "run")
    corpus.mkdir()
    (corpus / "one.mpg").symlink_to(clips_dir / "grid" / "swiz3n.mpg")
    settings = PreparationSettings(
        corpus=CorpusSettings(speaker_rule=SpeakerRule.STEM),
        quality=QualitySettings(require_audio=False, minimum_sharpness=0),
    )
    register_corpus("folder", corpus, run, settings)
    assert prepare_clients(run, corpus, settings).made == 1
    crop = load_crop(run.crops("one"), "one")
    pixels = torch.from_numpy(np.stack(list(crop.frames()))).permute(0, 3, 1, 2).float() / 255
    count = len(pixels) // 24 * 24
    cepstra = torch.from_numpy(mfcc(crop.audio, 4 * count)).view(-1, 24, 4, 13)
    true = pixels[:count].unflatten(0, (-1, 24))
    term = SpeakingTerm.load()

    def loss(generated: Tensor, heard: Tensor) -> float:
        with torch.no_grad():
            scene = Scene(generated, true, heard)
            return float(term(Decoded(lambda pixels: pixels, generated, true, true[:, 0], scene)).mean())

    own = loss(true, cepstra)
    assert own < 0.6 * loss(true[:, :1].expand_as(true), cepstra)
