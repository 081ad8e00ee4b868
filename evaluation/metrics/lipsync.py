"""Whether the lips follow the speech, on clips whose true mouth opening is known.

The measured opening comes from the opening ruler, a network trained on the public split. It is compared with the
opening that the corpus rendered, never with the ruler's own reading of the true clip.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.interface import Figures, Networks
from preparation.faces.landmarks import MOUTH, Landmarks, interocular


def lip_correlation(measured: Floats, true: Floats) -> float:
    """Pearson correlation over a clip of measured and true opening, float [T] each.

    A generated mouth that never moves scores 0. Where the *true* mouth never moves, the correlation is undefined: NaN.
    """
    assert measured.shape == true.shape, f"{measured.shape} measured openings for {true.shape} true ones"
    x = measured.astype(np.float64) - measured.mean(dtype=np.float64)
    y = true.astype(np.float64) - true.mean(dtype=np.float64)
    if np.abs(y).max() < 1e-6:
        return float("nan")
    if np.abs(x).max() < 1e-6:
        return 0.0
    return float((x @ y) / np.sqrt((x @ x) * (y @ y)))


def opening_error(measured: Floats, true: Floats) -> float:
    """Mean |measured − true| opening, in inter-ocular distances."""
    assert measured.shape == true.shape, f"{measured.shape} measured openings for {true.shape} true ones"
    return float(np.abs(measured.astype(np.float64) - true).mean())


def lip_landmark_distance(generated: Landmarks, truth: Landmarks) -> float:
    """LMD: mean distance of mouth landmarks [T, 68, 2], mouths centred, in inter-ocular distances.

    Centring takes out head motion (Chen et al. 2018), which speech does not decide.
    """

    def centred(landmarks: Landmarks) -> Landmarks:
        mouth = landmarks[:, MOUTH]
        return mouth - mouth.mean(axis=1, keepdims=True)

    distance = np.linalg.norm(centred(generated) - centred(truth), axis=-1).mean(axis=1)
    return float((distance / interocular(truth)).mean())


def measure(clip: EvaluationClip, frames: Frames, networks: Networks) -> Figures:
    """Lip correlation and opening error by the run's opening ruler; nothing where the true opening is unknown."""
    if clip.opening is None:
        return {}
    opening = networks.opening.opening(frames)
    return {
        "lip_correlation": lip_correlation(opening, clip.opening),
        "opening_error": opening_error(opening, clip.opening),
    }
