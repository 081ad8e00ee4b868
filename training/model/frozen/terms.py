"""The three terms of eq. 12 that look at decoded frames, each around one frozen network.

Every term maps a `Decoded` of n clips and f frames to losses [n], one a clip; smaller is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from training.model.frozen.augmentation import sample_region
from training.model.frozen.lpips_network import Lpips
from training.model.frozen.rulers import IdentityRuler, OpeningRuler, standardise

Decode = Callable[[Tensor], Tensor]
"""The autoencoder's decoder: latents [N, C, h, w] to frames [N, 3, H, W] in about [0, 1], differentiable."""


@dataclass(frozen=True)
class Scene:
    """Whole windows of consecutive frames with their sound: latents [n, F, C, h, w], cepstra [n, F, 4, 13]."""

    generated: Tensor
    true: Tensor
    cepstra: Tensor


class Decoded:
    """Decoded frames of n clips; each kind is decoded when a term first uses it.

    The reference and the true frames pass through the same autoencoder as the generated ones, so that what it loses
    does not affect the comparison.
    """

    def __init__(
        self, decode: Decode, generated: Tensor, true: Tensor, reference: Tensor, scene: Scene | None = None
    ) -> None:
        """Latents: generated and true [n, f, C, h, w], reference [n, C, h, w]; `scene` is the whole window of each."""
        self._decode = decode
        self._generated, self._true, self._reference = generated, true, reference
        self._scene = scene

    @cached_property
    def generated(self) -> Tensor:
        """x̂ [n, f, 3, H, W], with gradients."""
        return self._frames(self._generated)

    @cached_property
    def true(self) -> Tensor:
        """x [n, f, 3, H, W]."""
        with torch.no_grad():
            return self._frames(self._true)

    @cached_property
    def reference(self) -> Tensor:
        """I_ref [n, 3, H, W], which is not one of the frames."""
        with torch.no_grad():
            return self._decode(self._reference)

    @property
    def heard(self) -> Tensor:
        """The sound of the whole windows: cepstra [n, F, 4, 13]."""
        return self._whole.cepstra

    @cached_property
    def generated_scene(self) -> Tensor:
        """x̂ of the whole windows [n, F, 3, H, W], with gradients."""
        return self._frames(self._whole.generated)

    @cached_property
    def true_scene(self) -> Tensor:
        """x of the whole windows [n, F, 3, H, W]."""
        with torch.no_grad():
            return self._frames(self._whole.true)

    @property
    def _whole(self) -> Scene:
        assert self._scene is not None, "a term on consecutive frames was given single frames"
        return self._scene

    def _frames(self, latents: Tensor) -> Tensor:
        return self._decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])


class IdentityTerm(nn.Module):
    """L_id, eq. 9: 1 - cos(phi(x̂), phi(I_ref)); `embedder` maps crops [B, 3, H, W] in [0, 1] to unit vectors."""

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, decoded: Decoded) -> Tensor:
        frames = decoded.generated
        with torch.no_grad():
            person = self.embedder(decoded.reference)
        faces = self.embedder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return 1 - (faces * person[:, None]).sum(-1).mean(1)


class LpipsTerm(nn.Module):
    """L_perc as the LPIPS distance; choose it for real faces."""

    def __init__(self, network: Lpips) -> None:
        super().__init__()
        self.network = network

    def forward(self, decoded: Decoded) -> Tensor:
        frames = decoded.generated
        distance = self.network(frames.flatten(0, 1), decoded.true.flatten(0, 1))
        return distance.unflatten(0, frames.shape[:2]).mean(1)


class RulerFeaturesTerm(nn.Module):
    """L_perc in the features of the two rulers, which the pipeline trains on the public split.

    LPIPS's formula without its learned heads: features are normalised to unit length at every place; their squared
    differences are summed over channels and averaged over places, then over layers. The identity ruler sees the face,
    the opening ruler its lower half. Choose it on rendered faces, or where LPIPS's backbone is not available; its
    values are not comparable with LPIPS's.
    """

    def __init__(self, identity: IdentityRuler, opening: OpeningRuler) -> None:
        super().__init__()
        self.rulers = nn.ModuleList([identity, opening])

    def forward(self, decoded: Decoded) -> Tensor:
        frames = decoded.generated
        with torch.no_grad():
            targets = list(self._features(decoded.true.flatten(0, 1)))
        layers = list(self._features(frames.flatten(0, 1)))
        distances = [
            (found - target).square().sum(1).mean((1, 2)) for found, target in zip(layers, targets, strict=True)
        ]
        return torch.stack(distances).mean(0).unflatten(0, frames.shape[:2]).mean(1)

    def _features(self, crops: Tensor) -> Iterator[Tensor]:
        """Features [B, C, h, w] of unit length in C, after each nonlinearity of each ruler."""
        for ruler in self.rulers:
            assert isinstance(ruler, IdentityRuler | OpeningRuler)
            hidden = standardise(sample_region(crops, ruler.REGION, ruler.SIZE))
            for layer in ruler.features:
                hidden = layer(hidden)
                if isinstance(layer, nn.GELU):
                    # As in LPIPS, the constant keeps the gradient finite where all channels are zero.
                    yield hidden / (hidden.square().sum(1, keepdim=True) + 1e-10).sqrt()


class MouthMotionTerm(nn.Module):
    """L_sync as a distance of mouth openings: those of generated frames x̂ against those of the true frames x.

    Mean square over the frames, in units of the deviation of public openings. It uses no sound: it asks that the mouth
    is as open as it was when the sound was recorded, and is more precise than an audio-visual network trained on little
    data. Choose it on rendered faces, whose opening the ruler measures well.
    """

    def __init__(self, opening: OpeningRuler) -> None:
        super().__init__()
        self.opening = opening

    def forward(self, decoded: Decoded) -> Tensor:
        frames = decoded.generated
        with torch.no_grad():
            target = self.opening(decoded.true.flatten(0, 1))
        error = (self.opening(frames.flatten(0, 1)) - target) / self.opening.scale
        return error.square().unflatten(0, frames.shape[:2]).mean(1)
