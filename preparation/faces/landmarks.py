"""The iBUG-68 points: which is which, how 478 MediaPipe points become 68, and what is measured on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preparation.settings import CropSettings

Landmarks = NDArray[np.float32]
"""float32 [..., 68, 2], pixels as x, y."""

BROWS = slice(17, 27)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
"""The person's right eye lies on the left of the picture."""
MOUTH = slice(48, 68)
CHIN = 8
UPPER_INNER_LIP, LOWER_INNER_LIP = 62, 66

STABLE = np.array([36, 39, 42, 45, 27, 28, 31, 33, 35])
"""Eye corners, nose bridge and base: bone and cartilage, which neither speech nor blinking moves."""
STABLE_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.7, 0.5, 0.7, 0.5])

# One vertex of MediaPipe's face mesh for each iBUG point.
_JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_OUTER_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181)
_INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)
MEDIAPIPE_TO_IBUG = np.array([*_JAW, *_BROWS, *_NOSE, *_EYES, *_OUTER_LIPS, *_INNER_LIPS])

# Positions of STABLE on a mean frontal face, in inter-ocular distances from the middle between the eye
# centres.
STABLE_MEAN = np.array(
    [
        [-0.703, 0.0],
        [-0.297, 0.020],
        [0.297, 0.020],
        [0.703, 0.0],
        [0.0, -0.020],
        [0.0, 0.175],
        [-0.235, 0.715],
        [0.0, 0.780],
        [0.235, 0.715],
    ]
)

MOUTH_CENTRE = 1.13
"""Height of the mouth's centre below the eyes on a mean face, in inter-ocular distances."""
MOUTH_WIDEN = 0.25
"""Share of the mouth's width that is added on each side of its box: lips, and the skin they pull."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


def eye_centres(landmarks: Landmarks) -> tuple[Landmarks, Landmarks]:
    """Centres of the person's right and left eye from their corners (lids move): float32 [..., 2] each."""
    return landmarks[..., [36, 39], :].mean(-2), landmarks[..., [42, 45], :].mean(-2)


def interocular(landmarks: Landmarks) -> NDArray[np.float32]:
    """Distance between the eye centres in pixels, float32 [...]."""
    right, left = eye_centres(landmarks)
    return np.linalg.norm(left - right, axis=-1)


def mouth_opening(landmarks: Landmarks) -> NDArray[np.float32]:
    """Gap between the inner lips in inter-ocular distances, float32 [...]; 0 is shut, a wide /a/ about
    0.4."""
    gap = np.linalg.norm(landmarks[..., LOWER_INNER_LIP, :] - landmarks[..., UPPER_INNER_LIP, :], axis=-1)
    return (gap / interocular(landmarks)).astype(np.float32)


def eye_openness(landmarks: Landmarks) -> NDArray[np.float32]:
    """Mean lid distance over eye width, float32 [...]; about 0.3 when open, below 0.15 in a blink."""

    def ratio(start: int) -> NDArray[np.float32]:
        point = landmarks[..., start : start + 6, :]
        lids = np.linalg.norm(point[..., [1, 2], :] - point[..., [5, 4], :], axis=-1).mean(-1)
        return lids / np.maximum(np.linalg.norm(point[..., 3, :] - point[..., 0, :], axis=-1), 1e-6)

    return ((ratio(36) + ratio(42)) / 2).astype(np.float32)


def pose_proxy(landmarks: Landmarks) -> NDArray[np.float32]:
    """Yaw and pitch as seen: the nose tip's offset from the eyes' middle, in inter-ocular distances, [...,
    2]."""
    right, left = eye_centres(landmarks)
    across = (left - right) / np.maximum(interocular(landmarks)[..., None], 1e-6)
    down = np.stack([-across[..., 1], across[..., 0]], axis=-1)
    offset = landmarks[..., 30, :] - (right + left) / 2
    pose = np.stack([(offset * across).sum(-1), (offset * down).sum(-1)], axis=-1)
    return (pose / np.maximum(interocular(landmarks)[..., None], 1e-6)).astype(np.float32)


def roll_degrees(landmarks: Landmarks) -> NDArray[np.float32]:
    """Angle of the line between the eyes, float32 [...]; positive is clockwise in the picture."""
    right, left = eye_centres(landmarks)
    difference = left - right
    return np.degrees(np.arctan2(difference[..., 1], difference[..., 0])).astype(np.float32)


def mouth_box(landmarks: Landmarks, size: int) -> Box:
    """The box around all mouth points given ([68, 2] or [T, 68, 2]), widened, inside a crop of `size`
    pixels."""
    return _box(landmarks[..., MOUTH, :], size)


def eye_boxes(landmarks: Landmarks, size: int) -> tuple[Box, Box]:
    """The same for the person's right and left eye."""
    return _box(landmarks[..., RIGHT_EYE, :], size), _box(landmarks[..., LEFT_EYE, :], size)


def template_mouth_box(size: int, settings: CropSettings | None = None) -> Box:
    """Where the mouth of an aligned face lies: a fixed box for losses and for frames without landmarks.

    It reaches from the nose base to the chin's dimple on a mean face, so that open mouths stay inside.
    """
    crop = settings or CropSettings()
    centre = (crop.eye_height + MOUTH_CENTRE * crop.eye_distance) * size
    half_width, up, down = (fraction * crop.eye_distance * size for fraction in (0.70, 0.36, 0.52))
    return _clip(size / 2 - half_width, centre - up, size / 2 + half_width, centre + down, size)


def template_eye_boxes(size: int, settings: CropSettings | None = None) -> tuple[Box, Box]:
    """Where the eyes of an aligned face lie (the person's right, then left)."""
    crop = settings or CropSettings()
    unit, middle = crop.eye_distance * size, crop.eye_height * size

    def around(x: float) -> Box:
        return _clip(x - 0.34 * unit, middle - 0.24 * unit, x + 0.34 * unit, middle + 0.20 * unit, size)

    return around(size / 2 - unit / 2), around(size / 2 + unit / 2)


def _box(points: Landmarks, size: int) -> Box:
    flat = points.reshape(-1, 2)
    low, high = flat.min(0), flat.max(0)
    margin = MOUTH_WIDEN * float(high[0] - low[0])
    return _clip(low[0] - margin, low[1] - margin, high[0] + margin, high[1] + margin, size)


def _clip(left: float, top: float, right: float, bottom: float, size: int) -> Box:
    """Round outwards, keep inside the crop, and never become empty."""
    x0, y0 = (int(np.clip(np.floor(value), 0, size - 1)) for value in (left, top))
    x1, y1 = (int(np.clip(np.ceil(value), low + 1, size)) for value, low in ((right, x0), (bottom, y0)))
    return x0, y0, x1, y1
