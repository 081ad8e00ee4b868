"""Inception of 2015-12-05 as torch-fidelity runs it: FID and KID are defined on its features."""

from __future__ import annotations

import torch

from common.weights import registry as weights
from evaluation.metrics.arrays import Floats, Frames
from training.model.device import choose_device

WEIGHT = "inception"
LAYER = "2048"


class InceptionFeatures:
    """Features of frames uint8 [N, H, W, 3]: the output of the last pooling, float32 [N, 2048].

    The network itself resizes frames to 299 x 299 as TensorFlow 1 did; every other way gives other numbers.
    """

    def __init__(self, device: str = "auto") -> None:
        # The package unpickles the file; `find` has compared its sha256 with the registered one before that.
        path = weights.find(WEIGHT)
        # Imported late, because it is slow and useless where the file is absent.
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self._device = choose_device(device)
        network = FeatureExtractorInceptionV3("inception-v3-compat", [LAYER], feature_extractor_weights_path=str(path))
        self._network = network.to(self._device)

    @property
    def fingerprint(self) -> str:
        return f"inception {weights.REGISTRY[WEIGHT].sha256} {LAYER}"

    @torch.no_grad()
    def features(self, frames: Frames) -> Floats:
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).to(self._device)
        return self._network(pictures)[0].float().cpu().numpy()
