"""Filters of equal width on the mel scale, as Slaney's Auditory Toolbox (1998) has them and librosa by default.

The same numbers as `librosa.filters.mel`, without importing librosa, which imports numba and costs seconds and 150 MB
in each process that computes features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KNEE_HZ = 1000.0
HZ_PER_MEL = 200 / 3
"""The scale below the knee, where it is linear; above the knee 27 mel are a factor of 6.4."""
KNEE_MEL = KNEE_HZ / HZ_PER_MEL
STEP = np.log(6.4) / 27


def mel_filters(rate_hz: int, n_fft: int, bins: int, highest_hz: float) -> NDArray[np.float32]:
    """Triangles from 0 Hz to `highest_hz` over the power spectrum of a window of `n_fft` samples: float32
    [bins, n_fft // 2 + 1]. Each has unit area in Hz, so that noise has one level in all of them."""
    highest = KNEE_MEL + np.log(highest_hz / KNEE_HZ) / STEP if highest_hz >= KNEE_HZ else highest_hz / HZ_PER_MEL
    mels = np.linspace(0.0, highest, bins + 2)
    edges = np.where(mels < KNEE_MEL, HZ_PER_MEL * mels, KNEE_HZ * np.exp(STEP * (mels - KNEE_MEL)))
    heard = np.fft.rfftfreq(n_fft, 1.0 / rate_hz)
    low, middle, high = (edges[start : start + bins, None] for start in range(3))
    triangles = np.maximum(0.0, np.minimum((heard - low) / (middle - low), (high - heard) / (high - middle)))
    # Rounded before as well as after, as librosa does, so that features keep every bit.
    return (triangles.astype(np.float32) * (2.0 / (high - low))).astype(np.float32)
