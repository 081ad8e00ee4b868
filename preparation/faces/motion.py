"""Head motion as twelve numbers a frame, which do not follow from speech: a condition of the generator.

None of the points used moves with the mouth, so the numbers carry no hint of what is being said.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from preparation.faces.landmarks import eye_centres

MOTION_DIM = 12

EYE_LIDS = ((37, 41), (38, 40)), ((43, 47), (44, 46))


def motion_descriptor(
    landmarks: npt.NDArray[np.float32], transforms: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Head pose, brows, lids and camera framing of each frame, float32 [T, 12].

    landmarks [T, 68, 2] in crop pixels; transforms [T, 2, 3] from source to crop pixels. In units of the
    inter-ocular distance (scale and angle: natural logarithm and radians):
    0-1 nose tip (yaw, pitch); 2-3 cheek contour left, right (yaw); 4-5 brow height; 6-7 lid opening;
    8-9 shift from source to crop, 10 crop scale, 11 roll removed by the crop (these four move the background).
    """
    left, right = eye_centres(landmarks)
    unit = np.linalg.norm(right - left, axis=1).mean()
    centre = (left + right) / 2
    nose = landmarks[:, 30] - centre
    cheeks = [landmarks[:, 0:3, 0].mean(1) - centre[:, 0], landmarks[:, 14:17, 0].mean(1) - centre[:, 0]]
    brows = [landmarks[:, 17:22, 1].mean(1) - left[:, 1], landmarks[:, 22:27, 1].mean(1) - right[:, 1]]
    lids = [
        np.mean([np.linalg.norm(landmarks[:, low] - landmarks[:, high], axis=1) for high, low in pairs], axis=0)
        for pairs in EYE_LIDS
    ]
    pose = np.stack([nose[:, 0], nose[:, 1], *cheeks, *brows, *lids], axis=1) / unit
    return np.concatenate([pose, _framing(transforms, unit)], axis=1).astype(np.float32)


def _framing(transforms: npt.NDArray[np.float32], unit: float) -> npt.NDArray[np.float64]:
    """Offset (in inter-ocular distances of the crop), log scale and angle of source-to-crop transforms, [T, 4]."""
    scale = np.hypot(transforms[:, 0, 0], transforms[:, 1, 0])
    angle = np.arctan2(transforms[:, 1, 0], transforms[:, 0, 0])
    return np.column_stack([transforms[:, :, 2] / unit, np.log(scale), angle])
