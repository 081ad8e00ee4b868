"""I3D features of short windows of video: FVD is the Fréchet distance between them (Unterthiner et al. 2018).

The network is the TorchScript file of StyleGAN-V and most evaluations after it. Windows are the middle 16 frames
of each clip at 25 fps: one sample a clip, so n is the number of clips. Below 400 the covariance is singular.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from common.weights import registry as weights
from evaluation.metrics.arrays import Floats, Frames
from training.model.device import choose_device

WEIGHT = "i3d"
WINDOW = 16


class I3dFeatures:
    """Features of a window uint8 [16, H, W, 3]: the 400 logits, float32 [1, 400]."""

    def __init__(self, device: str = "auto") -> None:
        self._device = choose_device(device)
        # A TorchScript file is a program: `find` has compared its sha256 with the registered one before it is run.
        self._network: Any = torch.jit.load(str(weights.find(WEIGHT)), map_location=self._device).eval()

    @property
    def fingerprint(self) -> str:
        return f"i3d {weights.REGISTRY[WEIGHT].sha256} {WINDOW}"

    @torch.no_grad()
    def features(self, frames: Frames) -> Floats:
        if len(frames) != WINDOW:
            raise ValueError(f"FVD's windows have {WINDOW} frames, not {len(frames)}")
        video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(self._device)
        # The file scales 0 ... 255 to -1 ... 1 and resizes to 224 x 224 by itself.
        found = self._network(video, rescale=True, resize=True, return_features=True)
        return found.float().cpu().numpy()


def middle_window(frames: Frames) -> Frames | None:
    """The middle 16 frames of a clip, or None where it has fewer."""
    start = (len(frames) - WINDOW) // 2
    return np.ascontiguousarray(frames[start : start + WINDOW]) if start >= 0 else None
