"""How near a generated frame is to the true one, pixel by pixel: PSNR and SSIM, whole or on the mouth.

Head pose cannot be known from speech, so whole-frame values mostly say how well the pose was guessed; the
mouth box is where speech decides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation.metrics.arrays import Frames, Values
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.interface import Figures, Networks
from preparation.faces.landmarks import mouth_box

Box = tuple[int, int, int, int]

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def psnr(generated: Frames, truth: Frames) -> Values:
    """Peak signal-to-noise ratio of each frame, dB: uint8 [T, H, W, 3] twice -> float64 [T].

    Equal frames give infinity, as in torchmetrics and scikit-image; frames without pixels give NaN.
    """
    _check_shapes(generated, truth)
    if generated.size == 0:
        return np.full(len(generated), np.nan)
    # Frame by frame: all at once, a minute at 512 pixels would take 9 GB.
    errors = np.array([((x.astype(np.float64) - y) ** 2).mean() for x, y in zip(generated, truth, strict=True)])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / errors)


def mean_psnr(generated: Frames, truth: Frames) -> float:
    """Mean PSNR of a clip, dB, where a frame that equals its truth counts as if one value in it were off by one.

    That is the smallest possible error and keeps the mean finite where single frames are equal, as a still picture's
    may be. The result is infinite where the true clip moves and every frame equals it: then the model was given the
    truth.
    """
    values = psnr(generated, truth)
    if len(values) > 1 and np.isinf(values).all() and (truth[1:] != truth[:1]).any():
        return float("inf")
    return float(np.minimum(values, 10 * np.log10(255.0**2 * max(1, truth[0].size))).mean())


def ssim(generated: Frames, truth: Frames) -> Values:
    """Structural similarity of each frame: uint8 [T, H, W, 3] twice -> float64 [T], 1 for equal frames.

    Wang et al. 2004, eq. 13: Gaussian window 11 with σ 1.5, K = (0.01, 0.03), the mean over the channels
    and all windows that lie inside the frame, as scikit-image computes it. torchmetrics agrees on those
    windows and adds mirrored ones at the border; its two-dimensional kernel takes thirty times as long. NaN where the
    frame is smaller than the window.
    """
    _check_shapes(generated, truth)
    if min(generated.shape[1:3]) < SSIM_WINDOW:
        return np.full(len(generated), np.nan)
    pairs = zip(generated, truth, strict=True)
    return np.array([_ssim_of_frame(x.astype(np.float32), y.astype(np.float32)) for x, y in pairs])


def cut(frames: Frames, box: Box) -> Frames:
    """The part of frames [T, H, W, 3] inside box = (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return frames[:, y0:y1, x0:x1]


def measure(clip: EvaluationClip, frames: Frames, networks: Networks) -> Figures:
    """PSNR and SSIM of all frames, of the centre frame, and of the box around the true mouth."""
    middle = slice(len(frames) // 2, len(frames) // 2 + 1)
    box = mouth_box(clip.landmarks, clip.frames.shape[1])
    mouth, true_mouth = cut(frames, box), cut(clip.frames, box)
    whole_ssim = ssim(frames, clip.frames)
    return {
        "psnr": mean_psnr(frames, clip.frames),
        "ssim": float(whole_ssim.mean()),
        "psnr_centre_frame": mean_psnr(frames[middle], clip.frames[middle]),
        "ssim_centre_frame": float(whole_ssim[middle].mean()),
        "mouth_psnr": mean_psnr(mouth, true_mouth),
        "mouth_ssim": float(ssim(mouth, true_mouth).mean()),
    }


def _ssim_of_frame(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> float:
    import cv2  # here, so that importing the catalogue stays fast

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    border = SSIM_WINDOW // 2
    inside = slice(border, -border)

    def window_mean(picture: npt.NDArray[np.float32]) -> Values:
        blurred = cv2.GaussianBlur(picture, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
        return blurred[inside, inside].astype(np.float64)

    mean_x, mean_y = window_mean(x), window_mean(y)
    variance_x = window_mean(x * x) - mean_x**2
    variance_y = window_mean(y * y) - mean_y**2
    covariance = window_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * structure).mean())


def _check_shapes(generated: Frames, truth: Frames) -> None:
    assert generated.shape == truth.shape, f"frames differ in shape: {generated.shape} and {truth.shape}"
    assert generated.dtype == truth.dtype == np.uint8, f"frames are {generated.dtype} and {truth.dtype}"
