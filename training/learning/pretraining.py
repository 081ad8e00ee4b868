"""Pretraining of the backbone on the public split, without which LoRA only yields noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import PrivFedTalkError
from common.progress import track
from training.learning.validation import validation_loss
from training.model.backbones.conditions import SpeechEncoder
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.backbones.kinds import build_backbone
from training.model.data import BUFFER_FRAMES, Batch, ClipTensors, longest, stream_batches
from training.model.device import deterministic
from training.model.halves import Part, open_gradients
from training.model.objective import Draw, feature_weight, local_objective
from training.settings import BackboneSettings, ObjectiveSettings, PretrainingSettings


@dataclass(frozen=True)
class PretrainingRow:
    """One line of the training curve."""

    step: int
    training_loss: float
    validation_loss: float


def pretrain(
    open_training: Callable[[], Iterator[ClipTensors]],
    validation: Sequence[ClipTensors],
    backbone_settings: BackboneSettings,
    objective: ObjectiveSettings,
    settings: PretrainingSettings,
    seed: int,
    device: torch.device | None = None,
    workers: int = 1,
) -> tuple[Backbone, list[PretrainingRow]]:
    """Train a backbone on public clips; the returned weights are an exponential moving average over the steps.

    `open_training` opens the stream of public training clips anew at each call; `validation` are clips of public
    speakers who are not in it. Raises PrivFedTalkError if either has no clip as long as the backbone's window. The
    weights do not depend on `workers`, the number of processes (at most two) that compute gradients on a CPU.
    """
    device = device or torch.device("cpu")
    _check_window(open_training(), "training", backbone_settings.window)
    _check_window(iter(validation), "validation", backbone_settings.window)
    sample = _first(open_training(), BUFFER_FRAMES)
    shape = measure_shape(sample[0])
    with deterministic(seed):
        backbone = build_backbone(backbone_settings, shape)
    if backbone_settings.diffused == "residual":
        backbone.residual_std.copy_(_residual_std(sample))
    backbone.motion_std.copy_(torch.cat([clip.motion for clip in sample]).square().mean(0).sqrt() + 1e-4)
    if backbone.speech_encoder is not None:
        pretrain_speech(backbone.speech_encoder, sample, settings, seed)
        backbone.speech_encoder.requires_grad_(not settings.freeze_speech)
    backbone.to(device)
    optimizer = torch.optim.AdamW(
        [p for p in backbone.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, settings.steps))
    average = {name: value.detach().clone() for name, value in backbone.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    batches = stream_batches(
        _again_and_again(open_training),
        settings.batch_size,
        backbone_settings.window,
        np.random.default_rng([seed, 2]),
        own_references=settings.own_references,
    )
    history: list[PretrainingRow] = []
    recent = torch.zeros((), dtype=torch.float64, device=device)  # on the device, as reading it would stall a GPU
    with open_gradients(backbone, partial(_losses, objective, device), workers, device) as gradients:
        for step, batch in enumerate(track(itertools.islice(batches, settings.steps), "backbone", settings.steps), 1):
            draw = Draw.sample(batch.latents, objective, generator)
            losses = gradients(len(batch.latents), partial(_part, batch, draw, feature_weight(batch, objective)))
            nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            _update_average(average, backbone, min(settings.ema, (1 + step) / (10 + step)))
            loss = losses[1].double()
            recent = loss if step == 1 else 0.98 * recent + 0.02 * loss
            if step % settings.validate_every == 0 or step == settings.steps:
                held_out = _validate_average(backbone, average, validation, objective, seed)
                history.append(PretrainingRow(step, float(recent), held_out))
    backbone.load_state_dict(average)
    return backbone.eval().requires_grad_(False), history


def _part(batch: Batch, draw: Draw, weight: Tensor, cut: slice) -> Part:
    """Some of a batch's windows with their noise, and their cells' weight [B, F, h, w] in the whole batch."""
    held = {"batch": batch.part(cut), "draw": draw.part(cut)}
    tensors = {f"{kind}.{name}": value for kind, one in held.items() for name, value in vars(one).items()}
    return {"weight": weight[cut].numpy(), **{name: x.numpy() for name, x in tensors.items() if x is not None}}


def _losses(objective: ObjectiveSettings, device: torch.device, backbone: nn.Module, part: Part) -> Tensor:
    """The objective, which training descends on, and its denoising term: [2]."""
    assert isinstance(backbone, Backbone)

    def tensors(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): torch.from_numpy(part[name]) for name in part if name.startswith(kind)}

    batch, draw = Batch(**tensors("batch.")).to(device), Draw(**tensors("draw.")).to(device)
    weight = torch.from_numpy(part["weight"]).to(device)
    losses = local_objective(backbone, batch, draw, objective, weight=weight)
    return torch.stack([losses.total.float(), losses.denoising.float()])


def _first(clips: Iterator[ClipTensors], frames: int) -> list[ClipTensors]:
    """The first clips of a stream that have so many frames together."""
    first: list[ClipTensors] = []
    while frames > 0 and (clip := next(clips, None)):
        first.append(clip)
        frames -= len(clip.latents)
    return first


def _again_and_again(open_training: Callable[[], Iterator[ClipTensors]]) -> Iterator[ClipTensors]:
    """The stream's clips, and again from the first where a buffer does not hold them all."""
    frames = 0
    while True:
        for clip in open_training():
            frames += len(clip.latents)
            yield clip
        if frames <= BUFFER_FRAMES:
            return


def _check_window(clips: Iterator[ClipTensors], split: str, frames: int) -> None:
    """Raise PrivFedTalkError if no clip is as long as a window: batches are drawn from such clips only."""
    most = longest((len(clip.latents) for clip in clips), frames)
    if most >= frames:
        return
    raise PrivFedTalkError(
        f"no public clip for {split} is as long as a window of {frames} frames (the longest has {most})",
        remedy="set training.backbone.window to fewer frames, or give longer clips of public speakers",
    )


def measure_shape(clip: ClipTensors) -> BackboneShape:
    """The shape that a backbone must have to fit the data."""
    _, channels, size, _ = clip.latents.shape
    _, steps, dim = clip.speech.shape
    return BackboneShape(
        latent_channels=channels,
        latent_size=size,
        speech_steps=steps,
        speech_dim=dim,
        motion_dim=clip.motion.shape[-1],
    )


def pretrain_speech(
    encoder: SpeechEncoder, clips: Sequence[ClipTensors], settings: PretrainingSettings, seed: int
) -> None:
    """Train the speech encoder to predict the lips' shape (from landmarks), before the denoiser is trained.

    It takes seconds, and the denoiser need not discover through noise how sound and lips are related.
    """
    device = encoder.out.weight.device
    speech = torch.cat([clip.speech for clip in clips]).to(device)
    lips = torch.cat([clip.lips for clip in clips])
    lips = ((lips - lips.mean(0)) / lips.std(0)).to(device)
    with deterministic(seed):
        head = nn.Linear(encoder.out.out_features, lips.shape[1]).to(device)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05)
    rng = np.random.default_rng([seed, 3])
    with deterministic(seed):  # of the dropout
        for step in track(range(settings.speech_steps), "speech encoder"):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * _warm_cosine(step, settings.speech_steps)
            index = torch.from_numpy(rng.integers(0, len(speech), 256))
            heard = F.silu(encoder(speech[index], settings.speech_dropout))
            loss = F.mse_loss(head(heard), lips[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def curve(history: Sequence[PretrainingRow]) -> list[dict[str, float]]:
    """The training curve as plain rows for JSON."""
    return [asdict(row) for row in history]


def _residual_std(clips: Sequence[ClipTensors]) -> Tensor:
    """Root mean square of latents minus their reference, for each channel, [1, 1, C, 1, 1]."""
    total = torch.stack([(clip.latents - clip.reference).square().mean(dim=(0, 2, 3)) for clip in clips])
    return total.mean(0).sqrt().view(1, 1, -1, 1, 1)


def _warm_cosine(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / (0.05 * steps + 1))
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    current = model.state_dict()
    torch._foreach_lerp_(list(average.values()), [current[name] for name in average], 1 - decay)


def _validate_average(
    backbone: Backbone,
    average: dict[str, Tensor],
    validation: Sequence[ClipTensors],
    objective: ObjectiveSettings,
    seed: int,
) -> float:
    current = {name: value.detach().clone() for name, value in backbone.state_dict().items()}
    backbone.load_state_dict(average)
    loss = validation_loss(backbone, validation, objective, seed)
    backbone.load_state_dict(current)
    return loss
