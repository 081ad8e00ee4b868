"""The video transformer: frames are placed by their distance, it learns, and a size that cannot be is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from common.errors import PrivFedTalkError
from tests.training.small_kinds import small_kind, small_settings
from tests.training.small_models import SHAPE, make_clip
from training.learning.pretraining import pretrain
from training.model.backbones.base import rotate, turns_of
from training.model.backbones.kinds import build_backbone
from training.model.data import Batch
from training.settings import BackboneSettings, ObjectiveSettings, PretrainingSettings
from training.settings.backbones import BaseSettings


def test_rotation_keeps_lengths_and_leaves_only_the_distance_of_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 8, generator=generator).expand(1, 1, 10, 8) for _ in range(2))
    turns = turns_of(10, 8, q.device)
    turned_q, turned_k = rotate(q, *turns), rotate(k, *turns)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    scores = (turned_q @ turned_k.transpose(-1, -2))[0, 0]
    for distance in range(-9, 10):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scores[0, 1], scores[0, 2], atol=1e-2)


@torch.no_grad()
def test_a_new_network_says_nothing_yet_and_frames_know_of_each_other_once_trained(
    batch: Batch, tmp_path: Path
) -> None:
    t = torch.tensor([100, 500, 900])
    new = build_backbone(small_settings("base", tmp_path), SHAPE)
    assert not new(batch.latents, t, batch.speech, batch.reference, batch.motion).any()
    trained = small_kind("base", tmp_path)
    other = batch.latents.clone()
    other[:, 2] += 1.0
    changed = [trained(z_t, t, batch.speech, batch.reference, batch.motion) for z_t in (batch.latents, other)]
    assert (changed[1] - changed[0]).abs().amax((0, 2, 3, 4)).min() > 1e-4


@pytest.mark.slow(minutes=0.1)
def test_validation_loss_falls_on_speakers_never_seen(tmp_path: Path) -> None:
    clips, held_out = [make_clip(seed) for seed in range(12)], [make_clip(100 + seed) for seed in range(4)]
    settings = PretrainingSettings(steps=80, batch_size=4, speech_steps=60, validate_every=20)
    chosen = small_settings("base", tmp_path)
    _, history = pretrain(lambda: iter(clips), held_out, chosen, ObjectiveSettings(), settings, seed=0)
    assert history[-1].validation_loss < 0.8 * history[0].validation_loss


def test_a_size_that_cannot_be_is_named() -> None:
    with pytest.raises(ValidationError, match="width=96 divided by heads=32"):
        BaseSettings(width=96, heads=32)
    with pytest.raises(PrivFedTalkError, match="latents of 8 cells have no whole number of patches of 3"):
        build_backbone(BackboneSettings(kind="base", base=BaseSettings(width=32, depth=1, heads=2, patch=3)), SHAPE)
