"""Eyes: the curves of the lids, and what is drawn between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preparation.corpora.studio.head.canvas import Array, smoothstep
from preparation.corpora.studio.head.identity import Identity

HALF_WIDTH_MM = 15.0
UPPER_MM, LOWER_MM = 5.5, 4.4
IRIS_MM = 5.9


@dataclass(frozen=True)
class EyePose:
    """Eyes at one moment: `blink` in [0, 1], gaze in degrees (right and down positive), `squint` in [0, 1]."""

    blink: float
    gaze_x: float
    gaze_y: float
    squint: float


@dataclass(frozen=True)
class Eye:
    """One eye; `side` is -1 on the left of the picture, +1 on the right. (x, y) is its centre in mm."""

    person: Identity
    side: float
    x: float
    y: float

    @property
    def half(self) -> float:
        return HALF_WIDTH_MM * self.person.eye_size

    def local(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Outward distance as a fraction of the half-width, and height in mm below the axis of the tilted eye."""
        outward = (u - self.x) * self.side
        return outward / self.half, v - self.y + self.person.eye_tilt * outward

    def lids(self, t: Array, pose: EyePose) -> tuple[Array, Array]:
        """Heights in mm of the upper and lower lid at outward fraction t in [-1, 1]."""
        size = self.person.eye_size
        skew = np.clip(t + 0.10 * (1.0 - t * t), -1.0, 1.0)  # the upper lid peaks towards the nose
        arch = np.power(1.0 - np.abs(skew) ** 2.1, 0.72)
        upper = -UPPER_MM * size * self.person.eye_opening * arch
        lower = LOWER_MM * size * np.power(np.clip(1.0 - np.abs(t - 0.06) ** 2.0, 0.0, 1.0), 0.85)
        lower = lower * (1.0 - 0.35 * pose.squint)
        shut = lower * 0.82
        droop = 0.035 * max(pose.gaze_y, 0.0)  # the lid follows a lowered gaze
        close = min(1.0, pose.blink + (1.0 - pose.blink) * droop)
        return upper + close * (shut - upper), lower + 0.18 * pose.blink * (shut - lower)

    def iris_centre(self, pose: EyePose) -> tuple[float, float]:
        return (0.205 * pose.gaze_x, -0.5 + 0.205 * pose.gaze_y)

    def paint(
        self, picture: Array, u: Array, v: Array, pose: EyePose, pixel_mm: float, level: float, light_x: float
    ) -> None:
        """Draw the open eye into `picture` [h, w, 3] (linear light) whose points are (u, v) in mm.

        `level` is the light on the eye; `light_x` is the sign of the side from which it comes.
        """
        t, height = self.local(u, v)
        within = np.clip(t, -1.0, 1.0)
        upper, lower = self.lids(within, pose)
        edge = 0.6 * pixel_mm
        aperture = smoothstep(-edge, edge, height - upper) * smoothstep(-edge, edge, lower - height)
        aperture *= smoothstep(1.0 + edge / self.half, 1.0 - edge / self.half, np.abs(t))
        ball = self._ball(u, height, upper, within, pose, edge, light_x) * level
        picture += aperture[..., None] * (ball - picture)
        self._rims(picture, t, within, height, upper, lower, pose, edge)

    def _ball(
        self, u: Array, height: Array, upper: Array, t: Array, pose: EyePose, edge: float, light_x: float
    ) -> Array:
        person = self.person
        gaze_x, gaze_y = self.iris_centre(pose)
        dx, dy = u - self.x - gaze_x, height - gaze_y
        radius = np.sqrt(dx * dx + dy * dy)
        round_shade = np.clip(1.0 - 0.42 * t * t, 0.0, 1.0)
        shadow = 0.40 + 0.60 * smoothstep(-0.4, 4.4, height - upper)
        white = np.array([0.60, 0.55, 0.52], np.float32) - 0.10 * (t * t)[..., None] * np.array(
            [0.0, 0.8, 0.9], np.float32
        )
        ball = white * (round_shade * shadow)[..., None]
        corner = smoothstep(-0.72, -0.98, t)  # caruncle
        ball += corner[..., None] * (np.array([0.42, 0.20, 0.18], np.float32) * shadow[..., None] - ball)
        iris_r = IRIS_MM * person.iris_size * person.eye_size
        rim = np.clip(radius / iris_r, 0.0, 1.0)
        # light that falls in from above gathers in the lower half of the iris
        tone = 0.55 + 0.55 * smoothstep(0.25, 0.60, rim) - 0.62 * smoothstep(0.74, 1.0, rim)
        tone *= 0.80 + 0.55 * np.clip(dy / iris_r, -0.6, 1.0)
        tone *= 0.55 + 0.45 * smoothstep(-0.2, 3.6, height - upper)
        iris = 1.25 * tone[..., None] * person.iris
        pupil = smoothstep(0.40 * iris_r + edge, 0.40 * iris_r - edge, radius)
        iris = iris * (1.0 - pupil[..., None]) + 0.004 * pupil[..., None]
        soft = edge + 0.25
        ball += smoothstep(iris_r + soft, iris_r - soft, radius)[..., None] * (iris - ball)
        glint = np.exp(-(((dx - 1.9 * light_x) ** 2 + (dy + 2.0) ** 2) / 1.25))
        glint += 0.20 * np.exp(-(((dx + 2.2 * light_x) ** 2 + (dy - 2.2) ** 2) / 2.0))
        return ball + (0.85 * glint * smoothstep(0.0, 1.2, height - upper))[..., None]

    def _rims(
        self,
        picture: Array,
        t: Array,
        within: Array,
        height: Array,
        upper: Array,
        lower: Array,
        pose: EyePose,
        edge: float,
    ) -> None:
        """Lashes along the lids: darken what lies there."""
        person = self.person
        beyond = smoothstep(1.12, 0.98, np.abs(t))
        outer = smoothstep(-1.0, 0.9, within)
        thick = (0.55 + 0.75 * person.lashes * outer) * person.eye_size + edge
        lash = np.exp(-(((height - upper + 0.25) / thick) ** 2)) * beyond * (0.62 + 0.30 * person.lashes)
        under = np.exp(-(((height - lower - 0.1) / (0.5 + edge)) ** 2)) * beyond
        under *= (0.16 + 0.25 * person.lashes * outer) * (1.0 - 0.7 * pose.blink)
        dark = 1.0 - np.clip(lash + under * (1.0 - lash), 0.0, 0.94)
        picture *= dark[..., None]
