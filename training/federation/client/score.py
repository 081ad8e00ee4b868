"""The reliability score s_k of a client, in two forms.

The paper's score (section 4.6) measures how well the client's adapter keeps the face and the motion. Ours measures how
much better the adapter explains the client's clips with their own speech than with other speech.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]

UNMEASURED = 0.5
"""s_k of a client without a clip to validate with (`training.federation.unmeasured`): the middle of its range. The same
for all of them, so it says nothing about a client's clips."""


def identity_similarity(embeddings: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    """IDSim in [0, 1]: mean cosine of unit embeddings [T, D] with the reference's [D], negatives as zero."""
    return float(np.clip(embeddings @ reference, 0, 1).mean())


def temporal_stability(generated: Frames, truth: Frames) -> float:
    """TempStab in (0, 1]: 1 / (1 + J), J the mean absolute difference, of pixels in [0, 1], between the
    frame-to-frame changes of generated and of true frames; both uint8 [T, H, W, 3]."""
    changes = [np.diff(frames.astype(np.float32) / 255.0, axis=0) for frames in (generated, truth)]
    return float(1.0 / (1.0 + np.abs(changes[0] - changes[1]).mean()))


@dataclass(frozen=True)
class Scored:
    """s_k, with its IDSim and TempStab; both are NaN for the score by speech."""

    score: float
    identity: float = math.nan
    stability: float = math.nan


def reliability(id_sim: float, temp_stab: float, alpha: float) -> float:
    """s_k = alpha IDSim + (1 - alpha) TempStab."""
    return alpha * id_sim + (1 - alpha) * temp_stab


def speech_dependence(own: float, moved: float) -> float:
    """1 - own / moved in [0, 1], negatives as zero.

    `own` is the denoising loss of the client's held-out clips with their own speech, `moved` the loss with that speech
    shifted by half a clip. If the sound belongs to somebody else, or the picture is too noisy to show lips, the two
    losses agree and the score stays near zero. The paper's score cannot notice that: it looks at faces, which stay in
    their place whatever the speech.
    """
    return min(max(1.0 - own / moved, 0.0), 1.0) if moved > 0 else 0.0
