"""L_sync, eq. 11, by a pretrained audio-visual network: does the generated face speak what is heard?

Light-ASD (`preparation.crops.active_speaker`) predicts a speaking logit for each frame of a face and its sound. It was
trained to find who speaks, not to measure an offset: it is insensitive to a shift of a frame or two, and sensitive to
lips that rest while speech is heard.
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
    """Mean over a window's frames of p log(1 + e^-l).

    l is the network's logit for "speaks" on generated frames x̂ and audio a, so log(1 + e^-l) = -log sigmoid(l) is its
    loss; p is the probability of "speaks" on the true frames x and a. Silence therefore has no weight.

    The true frames pass through the same autoencoder. A window (a third of a second) is short for the network, so p is
    low for people who mumble; the term is then weak rather than wrong.
    """

    def __init__(self, network: LightASD) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        # On a GPU, recurrent layers have gradients only in training mode; without dropout the result is the same.
        self.network.forth.train()
        self.network.back.train()

    @classmethod
    def load(cls) -> SpeakingTerm:
        """The term with the registered weights, frozen; raises MissingWeightError if the file is missing."""
        return cls(ActiveSpeaker.load().network)

    def forward(self, decoded: Decoded) -> Tensor:
        frames = decoded.generated_scene
        with torch.no_grad():
            heard = self.network.hear(decoded.heard.flatten(1, 2).to(frames.dtype))
            speaks = self.network.fuse(self.network.see(faces(decoded.true_scene)), heard).sigmoid()
        logits = self.network.fuse(self.network.see(faces(frames)), heard)
        return (speaks * F.softplus(-logits)).mean(1)


def faces(crops: Tensor) -> Tensor:
    """The network's input, grey [n, F, 112, 112] in 0 to 255, from crops [n, F, 3, H, W] in [0, 1].

    Equals `preparation.crops.active_speaker.view` up to rounding, and is differentiable.
    """
    cut = sample_region(crops.flatten(0, 1), VIEW, (FACE_SIZE, FACE_SIZE))
    grey = (cut * torch.tensor(LUMA).to(cut).view(1, 3, 1, 1)).sum(1)
    return 255 * grey.unflatten(0, crops.shape[:2])
