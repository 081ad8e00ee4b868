"""L_sync, eq. 11, by a pretrained audio-visual network: does the generated face speak what is heard?

Light-ASD (`preparation.crops.active_speaker`) gives a speaking logit for each frame of a face and its sound. It was
trained to tell who speaks, not to measure an offset: it hardly minds a shift of a frame or two, and much minds lips
that rest while somebody is heard.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preparation.crops.active_speaker import FACE_SIZE, VIEW_CENTRE, VIEW_HALF, ActiveSpeaker, LightASD
from training.model.frozen.augmentation import sample_region
from training.model.frozen.terms import Decoded

LUMA = (0.299, 0.587, 0.114)
VIEW = (VIEW_CENTRE[0] - VIEW_HALF, VIEW_CENTRE[1] - VIEW_HALF, VIEW_CENTRE[0] + VIEW_HALF, VIEW_CENTRE[1] + VIEW_HALF)
"""The square of the crop that the network sees: left, top, right, bottom."""


class SpeakingTerm(nn.Module):
    """Mean over a window's frames of p log(1 + e^-l): the network's loss -log sigmoid(l) of saying "speaks" about x̂ and
    a, l its logit, weighed by the probability p that it says so about x and a. Silence asks for nothing.

    The true frames pass the same autoencoder. A window is short for the network (a third of a second), so that p is low
    for whoever mumbles, and the term is then weak rather than wrong.
    """

    def __init__(self, network: LightASD) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        # On a GPU, recurrence gives gradients in training mode only; with no dropout it computes the same.
        self.network.forth.train()
        self.network.back.train()

    @classmethod
    def load(cls) -> SpeakingTerm:
        """The registered weights, frozen; MissingWeightError where the file is not to be had."""
        return cls(ActiveSpeaker.load().network)

    def forward(self, decoded: Decoded) -> Tensor:
        frames = decoded.generated_scene
        with torch.no_grad():
            heard = self.network.hear(decoded.heard.flatten(1, 2).to(frames.dtype))
            speaks = self.network.fuse(self.network.see(faces(decoded.true_scene)), heard).sigmoid()
        logits = self.network.fuse(self.network.see(faces(frames)), heard)
        return (speaks * F.softplus(-logits)).mean(1)


def faces(crops: Tensor) -> Tensor:
    """What the network sees of crops [n, F, 3, H, W] in [0, 1]: grey [n, F, 112, 112] of 0 to 255, as
    `preparation.crops.active_speaker.view` but for rounding; differentiable."""
    cut = sample_region(crops.flatten(0, 1), VIEW, (FACE_SIZE, FACE_SIZE))
    grey = (cut * torch.tensor(LUMA).to(cut).view(1, 3, 1, 1)).sum(1)
    return 255 * grey.unflatten(0, crops.shape[:2])
