"""Paired validation: every model sees the same clips, noise and timesteps, so that small differences show."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.model.backbones.interface import Backbone
from training.model.data import ClipTensors, collate, fixed_windows
from training.model.objective import Draw, local_objective
from training.settings import ObjectiveSettings


@torch.inference_mode()
def validation_loss(
    backbone: Backbone,
    clips: Sequence[ClipTensors],
    settings: ObjectiveSettings,
    seed: int,
    draws: int = 4,
    batch_size: int = 16,
) -> float:
    """Mean denoising loss over all windows of `clips`, with noise and timesteps fixed by `seed`.

    Timesteps are stratified over the whole range so that few draws suffice.
    """
    frames = backbone.settings.window
    windows = fixed_windows(clips, frames)
    assert windows, "validation needs at least one clip as long as a window"
    generator = torch.Generator().manual_seed(seed)
    device = next(backbone.parameters()).device
    total, count = 0.0, 0
    for number in range(draws):
        for start in range(0, len(windows), batch_size):
            batch = collate(windows[start : start + batch_size])
            draw = Draw.sample(batch.latents, settings, generator)
            draw = Draw(draw.eps, _stratified(len(batch.latents), number, draws, settings.noise_bias, generator))
            loss = local_objective(backbone, batch.to(device), draw.to(device), settings).denoising
            total += float(loss) * len(batch.latents)
            count += len(batch.latents)
    return total / count


def _stratified(count: int, number: int, draws: int, bias: float, generator: torch.Generator) -> Tensor:
    """Timesteps of one draw: the unit interval cut into `draws` strata, one for each draw."""
    uniform = (number + torch.rand(count, generator=generator)) / draws
    return (uniform**bias * 1000).long().clamp(0, 999)
