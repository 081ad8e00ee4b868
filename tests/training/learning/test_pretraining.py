"""Pretraining on clips whose latents follow their speech: it learns, it repeats, speech is learnt first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.errors import PrivFedTalkError
from tests.training.small_models import make_clip
from training.learning.pretraining import PretrainingRow, _again_and_again, _losses, _part, pretrain, pretrain_speech
from training.model.backbones.conditions import SpeechEncoder
from training.model.backbones.interface import Backbone
from training.model.data import stream_batches
from training.model.device import full_precision
from training.model.halves import open_gradients
from training.model.objective import Draw, feature_weight, local_objective
from training.settings import BackboneSettings, ObjectiveSettings, PretrainingSettings

BACKBONE = BackboneSettings(width=32, depth=2, heads=2, window=6)
OBJECTIVE = ObjectiveSettings()


def run(steps: int, seed: int = 0) -> tuple[Backbone, list[PretrainingRow]]:
    clips = [make_clip(number) for number in range(12)]
    settings = PretrainingSettings(steps=steps, batch_size=4, speech_steps=60, validate_every=20)
    validation = [make_clip(100 + number) for number in range(4)]
    return pretrain(lambda: iter(clips), validation, BACKBONE, OBJECTIVE, settings, seed)


@pytest.mark.slow(minutes=0.1)
def test_validation_loss_falls_on_speakers_never_seen() -> None:
    _, history = run(120)
    losses = [row.validation_loss for row in history]
    assert [row.step for row in history] == [20, 40, 60, 80, 100, 120]
    assert losses[-1] < 0.8 * losses[0]


def test_same_seed_same_backbone() -> None:
    first, again, other = (run(6, seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_dropout_in_the_speech_encoders_pretraining_repeats_and_is_no_part_of_the_encoder() -> None:
    clips = [make_clip(number) for number in range(4)]
    speech = torch.cat([clip.speech for clip in clips])
    heard = []
    for share, state in ((0.5, 1), (0.5, 2), (0.0, 3)):
        torch.manual_seed(0)
        encoder = SpeechEncoder(speech.shape[1], speech.shape[2], 16)
        torch.manual_seed(state)
        pretrain_speech(encoder, clips, PretrainingSettings(speech_steps=20, speech_dropout=share), 0)
        heard.append(encoder(speech))
        assert torch.equal(heard[-1], encoder(speech))
    assert torch.equal(heard[0], heard[1]) and not torch.equal(heard[0], heard[2])


def test_statistics_of_the_public_split_travel_with_the_weights() -> None:
    backbone, _ = run(2)
    clips = [make_clip(number) for number in range(12)]
    motion = torch.cat([clip.motion for clip in clips])
    torch.testing.assert_close(backbone.motion_std, motion.square().mean(0).sqrt() + 1e-4)
    residual = torch.cat([clip.latents - clip.reference for clip in clips])
    torch.testing.assert_close(backbone.residual_std.flatten(), residual.square().mean((0, 2, 3)).sqrt())


def test_speech_encoder_knows_the_lips_before_the_first_picture() -> None:
    backbone, _ = run(1)
    clips = [make_clip(200 + number) for number in range(6)]
    assert backbone.speech_encoder is not None
    features = F.silu(backbone.speech_encoder(torch.cat([clip.speech for clip in clips])))
    lips = torch.cat([clip.lips for clip in clips])[:, :1]
    design = torch.cat([features, torch.ones(len(features), 1)], 1)
    fitted = design @ torch.linalg.lstsq(design, lips).solution
    explained = 1 - (fitted - lips).square().sum() / (lips - lips.mean()).square().sum()
    assert explained > 0.8


@pytest.mark.parametrize(("buffer", "passes"), [(24, 1), (23, 4)])
def test_a_corpus_beyond_the_buffer_is_read_again(monkeypatch: pytest.MonkeyPatch, buffer: int, passes: int) -> None:
    """Else only what the buffer held at the end of the first pass would teach from there on."""
    monkeypatch.setattr("training.learning.pretraining.BUFFER_FRAMES", buffer)
    clips = [make_clip(number, frames=8) for number in range(3)]
    assert list(islice(_again_and_again(lambda: iter(clips)), 12)) == clips * passes


@pytest.mark.parametrize("split", ["training", "validation"])
def test_no_clip_as_long_as_a_window_is_named(split: str) -> None:
    whole, short = make_clip(0), make_clip(1)
    short = replace(short, latents=short.latents[:5], speech=short.speech[:5], motion=short.motion[:5])
    training, validation = ([short], [whole]) if split == "training" else ([short, whole], [short])
    settings = PretrainingSettings(steps=1, batch_size=2, speech_steps=1)
    with pytest.raises(PrivFedTalkError, match=rf"for {split} is as long as a window of 6 frames \(the longest has 5"):
        pretrain(lambda: iter(training), validation, BACKBONE, OBJECTIVE, settings, 0)


def test_halves_of_a_batch_have_its_gradient_though_mouths_weigh_more_in_one() -> None:
    """Cells weigh by how much mouth and eye they hold, relative to the whole batch."""
    clips = [make_clip(number) for number in range(4)]
    batch = next(stream_batches(iter(clips), 4, BACKBONE.window, np.random.default_rng(0)))
    batch = replace(batch, mouth=batch.mouth * torch.tensor([0.1, 0.2, 3.0, 5.0]).view(-1, 1, 1, 1))
    draw = Draw.sample(batch.latents, OBJECTIVE, torch.Generator().manual_seed(0))
    backbone, _ = run(1)
    backbone.requires_grad_(True).train()
    with full_precision():
        whole = local_objective(backbone, batch, draw, OBJECTIVE)
        expected = torch.autograd.grad(whole.total, list(backbone.parameters()), allow_unused=True)
        with open_gradients(backbone, partial(_losses, OBJECTIVE, torch.device("cpu")), workers=1) as gradients:
            losses = gradients(4, partial(_part, batch, draw, feature_weight(batch, OBJECTIVE)))
    torch.testing.assert_close(losses, torch.stack([whole.total, whole.denoising]).detach())
    for parameter, gradient in zip(backbone.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
