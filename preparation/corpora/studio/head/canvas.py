"""The canonical front view on which a head is painted, in millimetres, and small drawing helpers.

Origin between the eyes, x to the right of the picture, y down, z towards the camera.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

LEFT, RIGHT, TOP, BOTTOM = -114.0, 114.0, -126.0, 146.0
PIXELS_PER_MM = 1.5
WIDTH = round((RIGHT - LEFT) * PIXELS_PER_MM)
HEIGHT = round((BOTTOM - TOP) * PIXELS_PER_MM)

_xs = (np.arange(WIDTH, dtype=np.float32) + 0.5) / PIXELS_PER_MM + LEFT
_ys = (np.arange(HEIGHT, dtype=np.float32) + 0.5) / PIXELS_PER_MM + TOP
X: Array = np.ascontiguousarray(np.broadcast_to(_xs[None, :], (HEIGHT, WIDTH)))
Y: Array = np.ascontiguousarray(np.broadcast_to(_ys[:, None], (HEIGHT, WIDTH)))


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, a cubic between; falls when `low` > `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(x: float, y: float, sigma_x: float, sigma_y: float) -> Array:
    """A Gaussian hill of height 1 on the canvas."""
    along_x = np.exp(-0.5 * ((_xs - x) / sigma_x) ** 2)
    along_y = np.exp(-0.5 * ((_ys - y) / sigma_y) ** 2)
    return np.outer(along_y, along_x).astype(np.float32)


def pair(x: float, y: float, sigma_x: float, sigma_y: float) -> Array:
    """Two equal Gaussian hills, one on each side of the face."""
    return bump(x, y, sigma_x, sigma_y) + bump(-x, y, sigma_x, sigma_y)


def blur(image: Array, sigma_mm: float) -> Array:
    """Gaussian blur of `sigma_mm`; a wide blur is computed on a coarser grid, where it costs little."""
    sigma = sigma_mm * PIXELS_PER_MM
    if sigma < 6.0:
        return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    small = cv2.resize(image, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4.0, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def noise(rng: np.random.Generator, grain_x_mm: float, grain_y_mm: float) -> Array:
    """Smooth noise of about unit scale with grains of the given size."""
    columns = max(2, round((RIGHT - LEFT) / grain_x_mm))
    rows = max(2, round((BOTTOM - TOP) / grain_y_mm))
    small = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def lookup(u: Array, v: Array) -> tuple[Array, Array]:
    """Millimetres as `cv2.remap` coordinates of the canvas."""
    return (u - LEFT) * PIXELS_PER_MM - 0.5, (v - TOP) * PIXELS_PER_MM - 0.5


def sample(image: Array, u: Array, v: Array) -> Array:
    """The canvas at points in millimetres, bilinear, edges repeated."""
    columns, rows = lookup(u, v)
    return cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
