"""Stabilise a face: a similarity transform from each frame to a canonical crop, smooth in time.

Alignment decides what a small model can learn: unaligned faces gave a lip correlation of 0.34, aligned ones
0.98 in the same training time, because head motion no longer hides what the mouth does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from preparation.faces.landmarks import STABLE, STABLE_MEAN, STABLE_WEIGHTS, Landmarks
from preparation.settings import CropSettings

if TYPE_CHECKING:  # training imports this module and needs no video decoder
    from preparation.media.track.frames import Box, Frame

Transforms = NDArray[np.float64]
"""float64 [T, 2, 3], from source to crop pixels: a uniform scale, a rotation and a shift."""


def template(settings: CropSettings) -> NDArray[np.float64]:
    """The stable points of a mean face in the crop: float64 [9, 2], pixels."""
    middle = np.array([0.5, settings.eye_height])
    return (middle + settings.eye_distance * STABLE_MEAN) * settings.size


def fit_similarity(
    source: NDArray[np.floating], target: NDArray[np.floating], weights: NDArray[np.floating]
) -> Transforms:
    """Weighted least-squares similarity from source [T, K, 2] to target [K, 2]: float64 [T, 2, 3].

    Umeyama (1991) without reflection; in the plane it has a closed form with complex numbers: the best factor
    is <source, target> / <source, source> of the centred points.
    """
    share = weights / weights.sum()
    here = source[..., 0].astype(np.float64) + 1j * source[..., 1]
    there = target[..., 0].astype(np.float64) + 1j * target[..., 1]
    here_mean, there_mean = here @ share, there @ share
    here_centred, there_centred = here - here_mean[:, None], there - there_mean
    energy = (share * np.abs(here_centred) ** 2).sum(1)
    factor = (share * np.conj(here_centred) * there_centred).sum(1) / np.maximum(energy, 1e-12)
    return _matrices(factor, there_mean - factor * here_mean)


def fit_transforms(landmarks: Landmarks, settings: CropSettings) -> Transforms:
    """Transforms of a whole clip from its landmarks [T, 68, 2] in source pixels, smoothed in time.

    Scale, roll and the crop's centre in the source are smoothed, not the matrix's entries, whose mean shrinks. The
    filter is symmetric, so the crop does not lag behind the head.
    """
    raw = fit_similarity(landmarks[:, STABLE], template(settings), STABLE_WEIGHTS)
    factor = raw[:, 0, 0] + 1j * raw[:, 1, 0]
    middle = settings.size * (0.5 + 0.5j)
    centre = (middle - (raw[:, 0, 2] + 1j * raw[:, 1, 2])) / factor
    log_scale = _smooth(np.log(np.abs(factor)), settings.smoothing_scale)
    roll = _smooth(np.unwrap(np.angle(factor)), settings.smoothing_position)
    place = _smooth(centre.real, settings.smoothing_position) + 1j * _smooth(centre.imag, settings.smoothing_position)
    smooth = np.exp(log_scale + 1j * roll)
    return _matrices(smooth, middle - smooth * place)


def warp(frame: Frame, transform: NDArray[np.float64], size: int) -> Frame:
    """Cut the aligned crop out of a frame: uint8 [size, size, 3].

    Shrinking by more than two would alias, so the crop is first drawn at a whole multiple of its size and
    then averaged down, as INTER_AREA does; growing uses a cubic kernel.
    """
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    factor = int(np.clip(round(1 / max(scale, 1e-6)), 1, 8))
    enlarged = transform.copy()
    # Pixel centres: x_big + 0.5 = factor * (x + 0.5).
    enlarged *= factor
    enlarged[:, 2] += (factor - 1) / 2
    kernel = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    big = cv2.warpAffine(frame, enlarged, (factor * size, factor * size), flags=kernel, borderMode=cv2.BORDER_REPLICATE)
    return big if factor == 1 else cv2.resize(big, (size, size), interpolation=cv2.INTER_AREA)


def source_boxes(transforms: Transforms, size: int) -> list[Box]:
    """The boxes of source pixels that `warp` reads with transforms [T, 2, 3]; a box may reach beyond the picture."""
    corners = np.array([(x, y) for x in (-0.5, size - 0.5) for y in (-0.5, size - 0.5)])
    back = np.linalg.inv(transforms[:, :, :2])
    quads = np.einsum("tij,tkj->tki", back, corners - transforms[:, None, :, 2])
    # Three pixels more for the kernels.
    low, high = np.floor(quads.min(1)).astype(int) - 3, np.ceil(quads.max(1)).astype(int) + 4
    return [(int(x), int(y), int(right), int(bottom)) for (x, y), (right, bottom) in zip(low, high, strict=True)]


def transform_points(landmarks: Landmarks, transforms: NDArray[np.float64]) -> Landmarks:
    """Carry landmarks [T, 68, 2] from source to crop pixels with transforms [T, 2, 3]: float32 [T, 68, 2]."""
    moved = np.einsum("tij,tkj->tki", transforms[:, :, :2], landmarks.astype(np.float64))
    return (moved + transforms[:, None, :, 2]).astype(np.float32)


def align(frame: Frame, landmarks: Landmarks, settings: CropSettings | None = None) -> tuple[Frame, Landmarks]:
    """Align a single frame with landmarks [68, 2]: the crop and its landmarks in crop pixels."""
    crop = settings or CropSettings()
    transforms = fit_transforms(landmarks[None], crop)
    return warp(frame, transforms[0], crop.size), transform_points(landmarks[None], transforms)[0]


def _smooth(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    return gaussian_filter1d(values, sigma, mode="nearest") if sigma > 0 and len(values) > 1 else values


def _matrices(factor: NDArray[np.complex128], shift: NDArray[np.complex128]) -> Transforms:
    """Complex z -> factor * z + shift as affine matrices [T, 2, 3]."""
    rows = [factor.real, -factor.imag, shift.real, factor.imag, factor.real, shift.imag]
    return np.stack(rows, axis=-1).reshape(-1, 2, 3)
