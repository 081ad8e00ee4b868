"""Names for the arrays that metrics take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
"""uint8 [T, H, W, 3], RGB."""

Frame = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""

Floats = npt.NDArray[np.float32]

Values = npt.NDArray[np.float64]

Audio = npt.NDArray[np.int16]
"""int16 [S], 16 kHz, mono."""
