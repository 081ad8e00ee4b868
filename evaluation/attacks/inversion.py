"""Gradient inversion (Zhu et al. 2019; Geiping et al. 2020): from an update back to the face that it was computed on.

The attacker knows what every client knows: backbone, adapter, settings, and the public split. It looks for a reference
latent z (and, where it knows the noise draws, for every frame's latent) whose gradient points where the observed one
points. If ĝ is observed under Gaussian noise and faces are distributed as public ones, the likeliest guess minimises

    trust · (1 − c) + ½ ‖u‖²,    c = cos(g(u), ĝ),    trust = d √(1 − ρ²) / ρ²,

for ĝ of d coordinates, where noise is the share ρ of the norm and signal therefore √(1 − ρ²). With a free amplitude the
term would be 1 − c², which is flat at c = 0, where a search that starts at right angles would stay. u are whitened
coordinates, z = mean + L u with L Lᵀ the public covariance: at u = 0 the guess is the public mean, so an update without
information gives back what was known before. L-BFGS minimises; the objective is smooth except for the kinks of the
consistency term. A search that finds nothing bounds nothing, least of all one whose match did not rise: it `stalled`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.backbones.interface import Backbone
from training.model.data import Batch, ClipTensors
from training.model.device import full_precision
from training.model.objective import Draw, feature_weight, local_objective
from training.settings import ObjectiveSettings

SHRINKAGE = 0.1
"""Share of the covariance's mean variance that is added to all directions, as a few dozen people span few of them."""
LEAST_MATCH = 0.1
"""A search whose cosine ends below this, or no more than this above its start, has stalled."""


@dataclass(frozen=True)
class Scene:
    """One window as the attacker knows or guesses it: a `Batch` of one, and its noise.

    The search looks for the fields `latents` and `reference` of `window`. Only `OneFace`, which guesses residuals,
    reads their present values.
    """

    window: Batch
    draw: Draw

    def to(self, dtype: torch.dtype) -> Scene:
        """The same scene in another precision."""
        window = self.window.changed(lambda value: value.to(dtype))
        return Scene(window, Draw(self.draw.eps.to(dtype), self.draw.t))


@dataclass(frozen=True)
class Gaussian:
    """A mean [C, h, w] and a symmetric square root [D, D] of a covariance, D = C h w."""

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Gaussian:
        """Mean and shrunk covariance of values [N, C, h, w]."""
        flat = values.double().flatten(1)
        centred = flat - flat.mean(0)
        covariance = centred.T @ centred / max(len(flat) - 1, 1)
        covariance += SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
        variances, directions = torch.linalg.eigh(covariance)
        root = (directions * variances.clamp(min=0).sqrt()) @ directions.T
        return cls(flat.mean(0).view(values.shape[1:]).to(values.dtype), root.to(values.dtype))

    def at(self, u: Tensor) -> Tensor:
        """Whitened coordinates [..., D] -> values [..., C, h, w]."""
        return self.mean + (u @ self.root).view(*u.shape[:-1], *self.mean.shape)

    def to(self, dtype: torch.dtype) -> Gaussian:
        return Gaussian(self.mean.to(dtype), self.root.to(dtype))


@dataclass(frozen=True)
class Prior:
    """The distribution over public speakers of a face's reference latent, and of how a frame differs from it."""

    face: Gaussian
    motion: Gaussian

    @classmethod
    def of(cls, clips: Iterable[ClipTensors], every: int = 4) -> Prior:
        """The prior of public clips, from the reference and every `every`-th frame of each."""
        public = list(clips)
        references = torch.stack([clip.reference for clip in public])
        residuals = torch.cat([(clip.latents - clip.reference)[::every] for clip in public])
        return cls(Gaussian.of(references), Gaussian.of(residuals))

    def to(self, dtype: torch.dtype) -> Prior:
        return Prior(self.face.to(dtype), self.motion.to(dtype))


class Guess(Protocol):
    """What the attacker does not know, as variables of the search, and the windows that follow from them."""

    variables: list[Tensor]

    def windows(self) -> list[Batch]: ...

    def references(self) -> Tensor: ...


class OwnFaces:
    """Every scene shows a face of its own, with all frames unknown: for an attacker who knows the noise draws."""

    def __init__(self, scenes: Sequence[Scene], prior: Prior) -> None:
        self.scenes, self.prior = scenes, prior
        size = prior.face.mean.numel()
        frames = scenes[0].window.latents.shape[1]
        make = prior.face.mean.new_zeros
        self.face = make(len(scenes), size).requires_grad_()
        self.motion = make(len(scenes), frames, size).requires_grad_()
        self.variables = [self.face, self.motion]

    def windows(self) -> list[Batch]:
        references, residuals = self.prior.face.at(self.face), self.prior.motion.at(self.motion)
        return [
            replace(scene.window, reference=one[None], latents=(one + moved)[None])
            for scene, one, moved in zip(self.scenes, references, residuals, strict=True)
        ]

    def references(self) -> Tensor:
        return self.prior.face.at(self.face).detach()


class OneFace:
    """All scenes show one unknown face that moves as their own faces do: for an attacker who guesses all the rest."""

    def __init__(self, scenes: Sequence[Scene], prior: Prior) -> None:
        self.scenes, self.prior = scenes, prior
        self.face = prior.face.mean.new_zeros(1, prior.face.mean.numel()).requires_grad_()
        self.variables = [self.face]
        self.residuals = [scene.window.latents - scene.window.reference[:, None] for scene in scenes]

    def windows(self) -> list[Batch]:
        reference = self.prior.face.at(self.face)
        return [
            replace(scene.window, reference=reference, latents=reference[:, None] + moved)
            for scene, moved in zip(self.scenes, self.residuals, strict=True)
        ]

    def references(self) -> Tensor:
        return self.prior.face.at(self.face).detach()


@dataclass(frozen=True)
class Inverted:
    """The references found [N, C, h, w], the frames of their windows [N, F, C, h, w], and the match at both ends."""

    references: Tensor
    latents: Tensor
    cosine: float
    start: float

    @property
    def stalled(self) -> bool:
        """Whether the match did not rise clearly, so that a face that was not found proves nothing."""
        return not min(self.cosine, self.cosine - self.start) > LEAST_MATCH


def gradient(
    backbone: Backbone,
    parameters: Sequence[nn.Parameter],
    window: Batch,
    draw: Draw,
    objective: ObjectiveSettings,
    differentiable: bool = False,
) -> Tensor:
    """The gradient [d] of the local objective's latent terms on one window, at the adapter as it stands."""
    loss = local_objective(backbone, window, draw, objective, None, feature_weight(window, objective)).total
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters, create_graph=differentiable)])


def invert(
    backbone: Backbone,
    parameters: Sequence[nn.Parameter],
    observed: Tensor,
    guess: Guess,
    draws: Sequence[Draw],
    objective: ObjectiveSettings,
    trust: float,
    steps: int,
    weights: Tensor | None = None,
    unit: bool = False,
) -> Inverted:
    """Search for at most `steps` L-BFGS steps from the public mean.

    observed [d]: points as the gradient does or, with `weights` [d], as the gradient times these weights. unit: each
    window's gradient was scaled to one length before they were summed, as clipping does.
    """
    target = F.normalize(observed, dim=0)

    def predicted() -> Tensor:
        parts = [
            gradient(backbone, parameters, window, draw, objective, differentiable=True)
            for window, draw in zip(guess.windows(), draws, strict=True)
        ]
        total = torch.stack([F.normalize(part, dim=0) if unit else part for part in parts]).sum(0)
        return total if weights is None else total * weights

    def match() -> float:
        return float(F.cosine_similarity(predicted().detach(), target, dim=0))

    def mismatch() -> Tensor:
        cosine = F.cosine_similarity(predicted(), target, dim=0)
        prior = sum((u.square().sum() for u in guess.variables), start=cosine.new_zeros(()))
        return (1 - cosine) + prior / (2 * trust)

    optimizer = torch.optim.LBFGS(
        guess.variables,
        max_iter=steps,
        max_eval=steps * 5 // 4,
        history_size=100,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mismatch()
        loss.backward(inputs=guess.variables)
        return loss

    with full_precision():
        start = match()
        optimizer.step(closure)
        cosine = match()
    latents = torch.cat([window.latents for window in guess.windows()]).detach()
    return Inverted(guess.references(), latents, cosine, start)
