"""Eq. 12's terms on decoded frames: the samples they use, and each sample's weight.

x̂0 is meaningful only at low noise: from nearly pure noise the best guess is a blurred mean face, and correcting its
identity or its lips teaches nothing about either. So a sample is weighted by abar_t. Below a limit its weight is zero,
and it is not decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import PrivFedTalkError
from training.model.backbones.interface import Backbone
from training.model.data import Batch
from training.model.diffusion import alphas_bar
from training.model.frozen.speaking import SpeakingTerm
from training.model.frozen.terms import Decode, Decoded, Scene
from training.settings import DecodedSettings, Schedule


@dataclass(frozen=True)
class PixelTerms:
    """The terms that are switched on, by name; a term maps a `Decoded` of n clips to losses [n]."""

    decode: Decode
    terms: Mapping[str, nn.Module]
    settings: DecodedSettings

    def __call__(
        self, backbone: Backbone, batch: Batch, z_t: Tensor, predicted: Tensor, t: Tensor
    ) -> dict[str, Tensor]:
        """Each term's mean over the batch: sum over clips of gate(t) * loss, divided by the number of clips.

        z_t is the backbone's input and `predicted` its output, [B, F, C, h, w]; t [B]. Clips whose gate is zero add
        nothing and are not decoded.
        """
        scenes = any(isinstance(term, SpeakingTerm) for term in self.terms.values())
        if scenes and batch.cepstra is None:
            raise PrivFedTalkError(
                "the sync term of the local objective has no sound: its clips' shards hold no cepstra",
                "set preparation.shards.cepstra=true and prepare again, which makes the shards anew and nothing else; "
                "or choose training.objective.sync.network=ruler or none",
            )
        gate = noise_gate(t, self.settings.least_alpha_bar, backbone.process.schedule).to(predicted)
        inside = gate.nonzero().flatten()
        if not len(inside):
            return {name: predicted.new_zeros(()) for name in self.terms}
        frames = spread_frames(predicted.shape[1], self.settings.frames, predicted.device)
        reference, true = batch.reference[inside], batch.latents[inside]
        generated = backbone.to_latents(backbone.process.to_z0(z_t[inside], predicted[inside], t[inside]), reference)
        scene = Scene(generated, true, batch.cepstra[inside]) if scenes and batch.cepstra is not None else None
        decoded = Decoded(self.decode, generated[:, frames], true[:, frames], reference, scene)
        return {name: (gate[inside] * term(decoded)).sum() / len(t) for name, term in self.terms.items()}

    def to(self, device: torch.device) -> None:
        """Move the frozen networks to where the backbone is."""
        for term in self.terms.values():
            term.to(device)


def noise_gate(t: Tensor, least_alpha_bar: float, schedule: Schedule = "cosine") -> Tensor:
    """Weight of a sample by its noise level, t [B] -> [B]: abar_t where it reaches the limit, else 0."""
    alpha_bar = alphas_bar(schedule).to(t.device)[t]
    return torch.where(alpha_bar >= least_alpha_bar, alpha_bar, 0.0)


def spread_frames(window: int, count: int, device: torch.device | None = None) -> Tensor:
    """`count` frame indices evenly spread over a window. Windows start anywhere, so all frames of a clip are used."""
    count = min(count, window)
    return ((torch.arange(count, device=device) + 0.5) * window / count).long()
