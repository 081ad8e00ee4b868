"""LPIPS of each frame (Zhang et al. 2018, v0.1): how differently a picture network sees two frames.

Values depend on the backbone (AlexNet, SqueezeNet or VGG-16), so every metric's name includes it.
"""

from __future__ import annotations

import numpy as np
import torch

from evaluation.metrics.arrays import Frames, Values
from evaluation.metrics.networks.features import BATCH
from training.model.device import choose_device
from training.model.frozen.lpips_network import Lpips


class LpipsDistance:
    """LPIPS of frames uint8 [T, H, W, 3] and their truth -> float64 [T], 0 for equal frames; computed in batches."""

    def __init__(self, backbone: str, device: str = "auto") -> None:
        self._device = choose_device(device)
        self._network = Lpips(backbone).to(self._device)

    @torch.no_grad()
    def __call__(self, frames: Frames, truth: Frames) -> Values:
        assert frames.shape == truth.shape, f"frames differ in shape: {frames.shape} and {truth.shape}"
        found = [
            self._network(self._unit(frames[start : start + BATCH]), self._unit(truth[start : start + BATCH]))
            for start in range(0, len(frames), BATCH)
        ]
        return torch.cat(found).double().cpu().numpy().astype(np.float64)

    def _unit(self, frames: Frames) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).to(self._device).float() / 255
