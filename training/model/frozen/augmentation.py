"""Augmentations that make the rulers robust to small misalignment, light, colour balance and blur.

Generated frames come through a small VAE and are softer than the real crops on which a ruler is trained; without
`soften` a ruler would partly measure sharpness.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Region = tuple[float, float, float, float]


def sample_region(
    crops: Tensor,
    region: Region,
    size: tuple[int, int],
    shift: float = 0.0,
    stretch: Tensor | None = None,
    widen: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cut `region` = (left, top, right, bottom), fractions of the crop, out of crops [B, 3, H, W].

    Returns [B, 3, size[0], size[1]] by bilinear sampling, differentiable in `crops`. In training each picture is moved
    by up to `shift` (fraction of the crop) and made `stretch` [B] times as high and `widen` [B] times as wide about the
    region's centre.
    """
    # Bilinear sampling uses every pixel only down to about half the resolution, so larger crops are reduced first.
    finest = 2 * max(size)
    if crops.shape[-1] > finest:
        crops = F.interpolate(crops, size=(finest, finest), mode="bilinear", antialias=True)
    left, top, right, bottom = region
    count = len(crops)
    theta = torch.zeros(count, 2, 3, dtype=crops.dtype, device=crops.device)
    theta[:, 0, 0] = (right - left) / (1.0 if widen is None else widen)
    theta[:, 1, 1] = (bottom - top) / (1.0 if stretch is None else stretch)
    theta[:, 0, 2] = left + right - 1
    theta[:, 1, 2] = top + bottom - 1
    if shift > 0:
        theta[:, :, 2] += 2 * shift * (2 * torch.rand(count, 2, generator=generator) - 1)
    grid = F.affine_grid(theta, [count, 3, *size], align_corners=False)
    return F.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)


def photometric(pictures: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast, colour balance and gamma of pictures [B, 3, H, W] in [0, 1]."""
    count = len(pictures)

    def around_one(channels: int, spread: float) -> Tensor:
        return 1 + spread * (2 * torch.rand(count, channels, 1, 1, generator=generator) - 1)

    gamma = around_one(1, strength)
    gain = around_one(1, strength) * around_one(3, strength / 2)
    offset = around_one(1, strength / 3) - 1
    noise = 0.02 * torch.rand(count, 1, 1, 1, generator=generator)
    grain = torch.randn(pictures.shape, generator=generator) * noise
    return (pictures.clamp(1e-3, 1).pow(gamma) * gain + offset + grain).clamp(0, 1)


def soften(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blur a random half of the pictures [B, 3, H, W], each by its own amount."""
    amount = torch.rand(len(pictures), 1, 1, 1, generator=generator)
    amount = torch.where(torch.rand(amount.shape, generator=generator) < 0.5, 0.0, amount)
    blurred = F.avg_pool2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return torch.lerp(pictures, blurred, amount)
