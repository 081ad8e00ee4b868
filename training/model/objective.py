"""The local objective, eq. 12: denoising, temporal-denoising consistency, and the terms on decoded frames.

All terms are means over the batch. By default the diffused quantity is the residual of a frame's latent to the
reference latent, in units of the backbone's `residual_std`, so that the network need not predict what the reference
already shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.model.backbones.interface import Backbone
from training.model.data import Batch
from training.model.device import at_least_float32, autocast, sent
from training.model.diffusion import add_noise, sample_noise, sample_timesteps
from training.model.frozen.pixel_terms import PixelTerms
from training.settings import ObjectiveSettings


@dataclass(frozen=True)
class Draw:
    """The random part of one evaluation of the objective: noise eps [B, F, C, h, w] and timesteps t [B].

    `heard` and `seen` [B] mark the windows that keep their speech and their reference; None: all windows.
    """

    eps: Tensor
    t: Tensor
    heard: Tensor | None = None
    seen: Tensor | None = None

    @classmethod
    def sample(cls, like: Tensor, settings: ObjectiveSettings, generator: torch.Generator) -> Draw:
        """Draw noise, timesteps and dropped conditions for latents [B, F, C, h, w]."""
        eps = sample_noise(tuple(like.shape), settings.shared_noise, generator)
        t = sample_timesteps(len(like), settings.noise_bias, generator)
        drops = {"heard": settings.drop_speech, "seen": settings.drop_identity}
        # Nothing is drawn for a condition that is never dropped, so that the other draws do not depend on this feature.
        kept = {name: torch.rand(len(like), generator=generator) >= share for name, share in drops.items() if share > 0}
        return cls(eps, t, **kept)

    def to(self, device: torch.device) -> Draw:
        """The same draw on another device; drawing on the CPU makes it the same for all devices."""
        return self._each(lambda drawn: sent(drawn, device))

    def part(self, cut: slice) -> Draw:
        """The draw of some of the windows."""
        return self._each(lambda drawn: drawn[cut])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Draw:
        shown = (None if mask is None else change(mask) for mask in (self.heard, self.seen))
        return Draw(change(self.eps), change(self.t), *shown)

    def shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Speech and reference as inputs of the backbone, zeros where they are dropped."""
        speech, reference = batch.speech, batch.reference
        if self.heard is not None:
            speech = speech * self.heard.view(-1, 1, 1, 1)
        if self.seen is not None:
            reference = reference * self.seen.view(-1, 1, 1, 1)
        return speech, reference


def denoising_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L_diff, eq. 6: weighted mean square of predicted - target, [B, F, C, h, w]; weight [B, F, h, w].

    For a network that predicts eps this is eq. 6 itself. For one that predicts v, each timestep of eq. 6 is weighted by
    1/abar (the "SNR + 1" weighting of Salimans and Ho), since ||eps_hat - eps||^2 = abar ||v_hat - v||^2; it is
    finite at pure noise, too.
    """
    return (weight[:, :, None] * (predicted - target).square()).mean()


def temporal_denoising_consistency(eps_hat: Tensor, eps: Tensor) -> Tensor:
    """L_TDC, eq. 8: mean |(eps_hat_{f+1} - eps_hat_f) - (eps_{f+1} - eps_f)| over frames. [B, F, C, h, w]."""
    return ((eps_hat[:, 1:] - eps_hat[:, :-1]) - (eps[:, 1:] - eps[:, :-1])).abs().mean()


def feature_weight(batch: Batch, settings: ObjectiveSettings) -> Tensor:
    """Weight of each latent cell [B, F, h, w], larger on mouth and eyes; the mean is one."""
    weight = 1 + (settings.mouth_weight - 1) * batch.mouth + (settings.eye_weight - 1) * batch.eyes
    return weight / weight.mean()


@dataclass(frozen=True)
class Losses:
    """The objective and its unweighted terms, scalar tensors; `pixel` holds the terms on decoded frames in use."""

    total: Tensor
    denoising: Tensor
    tdc: Tensor
    pixel: Mapping[str, Tensor] = field(default_factory=dict)

    def by_name(self) -> dict[str, Tensor]:
        """The total and every term by name."""
        return {"total": self.total, "denoising": self.denoising, "tdc": self.tdc, **self.pixel}


def local_objective(
    backbone: Backbone,
    batch: Batch,
    draw: Draw,
    settings: ObjectiveSettings,
    pixel_terms: PixelTerms | None = None,
    weight: Tensor | None = None,
) -> Losses:
    """L_k for one batch and one draw; without `pixel_terms` only its latent terms.

    For a part of a batch, `weight` [B, F, h, w] must be cut from the whole batch's `feature_weight`, whose mean is one.
    The sum over the parts, each times its share of the windows, is then the loss of the batch.
    """
    process = backbone.process
    z0 = backbone.to_diffused(batch.latents, batch.reference)
    z_t, target = add_noise(z0, draw.eps, draw.t, process.schedule), process.target(z0, draw.eps, draw.t)
    with autocast(z0.device):
        predicted = backbone(z_t, draw.t, *draw.shown(batch), batch.motion)
    predicted = at_least_float32(predicted)
    weight = feature_weight(batch, settings) if weight is None else weight
    if settings.min_snr_gamma is not None:
        weight = weight * process.min_snr_weight(draw.t, settings.min_snr_gamma)[:, None, None, None]
    denoising = denoising_loss(predicted, target, weight)
    # For v, eps_hat - eps = sqrt(abar) (v_hat - v), so eq. 8 needs no division by small numbers.
    tdc = temporal_denoising_consistency(process.in_noise(predicted, draw.t), process.in_noise(target, draw.t))
    total = settings.denoising_weight * denoising + settings.tdc_weight * tdc
    pixel = pixel_terms(backbone, batch, z_t, predicted, draw.t) if pixel_terms else {}
    weights = settings.pixel_weights()
    for name, loss in pixel.items():
        total = total + weights[name] * loss
    return Losses(total, denoising, tdc, pixel)
