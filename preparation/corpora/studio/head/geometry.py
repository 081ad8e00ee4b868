"""The shape of a head: a height field over the canonical front view, made of a profile and Gaussian hills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from preparation.corpora.studio.head import canvas
from preparation.corpora.studio.head.canvas import Array, bump, pair, smoothstep
from preparation.corpora.studio.head.identity import Identity

# Half-width of the front silhouette and depth of the mid-line without nose, by height: millimetres of a mean adult.
SILHOUETTE = np.array(
    [
        (-118, 4), (-112, 30), (-100, 52), (-80, 67), (-55, 74), (-25, 74), (5, 72.5), (30, 70), (50, 66),
        (70, 60), (86, 51), (97, 41), (106, 29), (112, 17), (115, 8), (116, 2),
    ],
    np.float32,
)  # fmt: skip
PROFILE = np.array(
    [
        (-118, 10), (-105, 50), (-85, 75), (-60, 90), (-35, 97), (-16, 98), (-2, 91), (15, 90), (35, 91), (50, 92),
        (66, 91), (78, 88), (92, 90), (104, 84), (112, 70), (118, 40), (146, 10),
    ],
    np.float32,
)  # fmt: skip
MOUTH_Y = 66.0
NOSE_TIP_Y = 38.0


@dataclass(frozen=True)
class Head:
    """A face as geometry. `height` float32 [H, W] mm on the canvas; `inside` float32 [H, W] coverage of the bare head;
    `half_width` of the silhouette in mm at the canvas rows, [H]; `eye_x`, `mouth_y`, `chin_y`, `nose_y` in mm."""

    height: Array
    inside: Array
    half_width: Array
    eye_x: float
    mouth_y: float
    chin_y: float
    nose_y: float

    def width_at(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(y, canvas.Y[:, 0], self.half_width)


def build_head(person: Identity) -> Head:
    """The bare head with mouth and eyes shut; hair and ears are added where they are painted."""
    stretch = person.face_length
    rows = canvas.Y[:, 0]
    mouth_y, chin_y = MOUTH_Y * stretch, 112.0 * stretch
    nose_y = NOSE_TIP_Y * person.nose_length * stretch
    at = np.where(rows > 0, rows / stretch, rows)
    width = PchipInterpolator(SILHOUETTE[:, 0], SILHOUETTE[:, 1], extrapolate=False)(at)
    jaw = smoothstep(25.0, 85.0, rows / stretch)
    half_width = np.nan_to_num(width, nan=0.0) * person.face_width * (1.0 + jaw * (person.jaw_width - 1.0))
    half_width = np.maximum(half_width, 0.5).astype(np.float32)
    profile = PchipInterpolator(PROFILE[:, 0], PROFILE[:, 1])(np.clip(at, -118, 146)).astype(np.float32)

    ratio = np.minimum(np.abs(canvas.X) / half_width[:, None], 1.0)
    height = profile[:, None] * (1.0 - ratio**2.3) ** 0.5
    height += _features(person, nose_y, mouth_y, chin_y)
    # Rows above the crown and below the chin hold nothing.
    reach = np.where(half_width > 0.5, half_width, -2.0)[:, None]
    inside = np.clip((reach - np.abs(canvas.X)) * canvas.PIXELS_PER_MM / 1.5 + 0.5, 0.0, 1.0)
    height = canvas.blur(height.astype(np.float32), 1.0)
    return Head(height, inside.astype(np.float32), half_width, person.eye_distance / 2.0, mouth_y, chin_y, nose_y)


def _features(person: Identity, nose_y: float, mouth_y: float, chin_y: float) -> Array:
    eye = person.eye_distance / 2.0
    z = -9.0 * pair(eye, 1.0, 13.0, 9.0)  # sockets
    z += 6.5 * pair(eye + 0.5, 0.5, 10.5, 7.0) * person.eye_size  # eyeballs under the lids
    z -= 3.0 * pair(14.0, -3.0, 5.0, 8.0)
    z += 3.5 * person.brow_ridge * pair(28.0, -17.0, 15.0, 5.5)
    z += 4.0 * person.cheek * pair(43.0, 27.0, 15.0, 12.0)
    z -= 3.0 * pair(50.0, 62.0, 12.0, 18.0) * (1.6 - person.cheek)
    z -= 3.5 * pair(64.0, -28.0, 10.0, 16.0)
    # nose: a ridge that grows towards the tip, the tip's ball, the wings
    width = person.nose_width
    along = (canvas.Y + 6.0) / (nose_y + 6.0)
    ridge = np.clip(along, 0.0, 1.0) ** 1.25 * 17.0 * person.nose_height + 2.5 * smoothstep(-0.4, 0.2, along)
    ridge *= smoothstep(nose_y + 9.0, nose_y - 5.0, canvas.Y)
    spread = (6.0 + 3.6 * np.clip(along, 0.0, 1.2)) * width
    z += ridge * np.exp(-0.5 * (canvas.X / spread) ** 2)
    z += 12.5 * person.nose_height * bump(0.0, nose_y, 6.8 * width, 5.2)
    z += 5.0 * bump(0.0, nose_y + 7.0, 3.0, 3.0)
    z += 8.5 * pair(11.5 * width, nose_y + 3.0, 4.6, 4.8)
    z -= 1.6 * pair(18.0 * width, nose_y + 3.0, 2.6, 6.0)
    # mouth: a barrel, two lips, the groove between, philtrum, the hollow above the chin
    half = person.mouth_width
    upper, lower = person.upper_lip, person.lower_lip
    z += 3.5 * bump(0.0, mouth_y, 26.0, 15.0)
    z += 0.62 * upper * bump(0.0, mouth_y - 0.55 * upper, 0.55 * half, 0.5 * upper)
    z += 0.60 * lower * bump(0.0, mouth_y + 0.55 * lower, 0.52 * half, 0.5 * lower)
    z -= 3.0 * np.exp(-0.5 * ((canvas.Y - mouth_y) / 1.5) ** 2) * smoothstep(half + 3.0, half - 6.0, np.abs(canvas.X))
    z -= 1.8 * pair(half + 2.5, mouth_y + 0.5, 3.5, 4.0)
    z -= 1.2 * bump(0.0, mouth_y - upper - 5.0, 2.4, 5.5)
    z += 0.8 * pair(5.0, mouth_y - upper - 5.0, 2.2, 5.0)
    z -= 3.6 * bump(0.0, mouth_y + lower + 5.0, 17.0, 4.5)
    z += 5.0 * person.chin * bump(0.0, chin_y - 15.0, 14.0, 10.0)
    # the fold from the wing of the nose to beside the mouth, deeper with age
    for side in (-1.0, 1.0):
        centre = side * (19.0 * width + 0.36 * (canvas.Y - nose_y - 2.0))
        fade = smoothstep(nose_y - 2.0, nose_y + 8.0, canvas.Y) * smoothstep(mouth_y + 10.0, mouth_y - 6.0, canvas.Y)
        z -= (0.7 + 1.5 * person.age) * fade * np.exp(-0.5 * ((canvas.X - centre) / 3.2) ** 2)
    return z.astype(np.float32)


def normals(height: Array) -> Array:
    """Unit normals float32 [H, W, 3] of a height field in millimetres."""
    slope_y, slope_x = np.gradient(height, 1.0 / canvas.PIXELS_PER_MM)
    length = 1.0 / np.sqrt(slope_x**2 + slope_y**2 + 1.0)
    return np.stack([-slope_x * length, -slope_y * length, length], axis=-1).astype(np.float32)


def occlusion(height: Array) -> Array:
    """Ambient light that reaches each point, [H, W] in (0, 1]: less where the surroundings stand higher."""
    near = np.maximum(canvas.blur(height, 3.0) - height, 0.0)
    far = np.maximum(canvas.blur(height, 10.0) - height, 0.0)
    return np.clip(1.0 / (1.0 + 0.16 * near + 0.05 * far), 0.25, 1.0)
