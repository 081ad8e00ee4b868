"""The mouth: the contours of the lips at rest, the warp that opens them, and what is seen between them.

Coordinates are millimetres of the canonical view. A moved face is drawn by finding, for each of its points, where that
point lies in the face at rest; `unfold` gives it in closed form, so lips, chin and cheeks move together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preparation.corpora.studio.head.canvas import Array, smoothstep
from preparation.corpora.studio.head.identity import Identity

OPEN_VOWEL_MM = 9.6  # inner-lip gap of the open vowel for the mean public speaker
MAX_GAP_MM = 24.0
LENS_POWER = 0.62
CHIN_RAMP_MM = 30.0


@dataclass(frozen=True)
class MouthPose:
    """A mouth at one moment: inner-lip `gap` in mm, `spread` and `press` as in `articulation.Mouth`, corner lift
    `smile` in mm, `tongue` in [0, 1]."""

    gap: float
    spread: float
    press: float
    smile: float
    tongue: float


class Lips:
    """One person's lips: contours at rest and their motion."""

    def __init__(self, person: Identity, mouth_y: float) -> None:
        self.person = person
        self.y = mouth_y
        self.half = person.mouth_width
        self.inner_half = person.mouth_width - 1.5

    def line(self, x: Array) -> Array:
        """Where closed lips meet, y at x."""
        t = np.clip(x / self.half, -1.3, 1.3)
        tubercle = 0.9 * self.person.cupid * np.exp(-((x / 4.5) ** 2))
        dip = -0.5 * self.person.cupid * np.exp(-(((np.abs(x) - 9.0) / 5.0) ** 2))
        return self.y + tubercle + dip + (self.person.mouth_corner - 0.4) * t * t

    def upper(self, x: Array) -> Array:
        """Height of the upper lip above the line, >= 0."""
        t = np.clip(np.abs(x) / self.half, 0.0, 1.0)
        bow = 1.0 - 0.20 * self.person.cupid * np.exp(-((x / 3.2) ** 2))
        return self.person.upper_lip * (1.0 - t**1.6) ** 0.95 * bow

    def lower(self, x: Array) -> Array:
        """Height of the lower lip below the line, >= 0."""
        t = np.clip(np.abs(x) / self.half, 0.0, 1.0)
        return self.person.lower_lip * (1.0 - t**2.3) ** 0.9

    def gaps(self, x: Array, pose: MouthPose) -> tuple[Array, Array]:
        """How far the inner edges of the upper and the lower lip have moved from the line at x, both >= 0."""
        t = np.minimum(np.abs(x) / self.inner_half, 1.0)
        lens = np.power(1.0 - t * t, LENS_POWER)
        lift = self.person.lip_lift * pose.gap
        return lift * lens, (pose.gap - lift) * lens

    def width_factor(self, pose: MouthPose) -> float:
        spread = pose.spread * self.person.spread_gain
        wide = 1.0 + (0.10 if spread > 0.0 else 0.24) * spread
        return float(np.clip(wide - 0.004 * pose.gap, 0.70, 1.15))

    def unsmile(self, u: Array, v: Array, pose: MouthPose) -> tuple[Array, Array]:
        """Undo the spreading or rounding of the lips and the lift of their corners."""
        below = (v - self.y) / 20.0
        aside = np.square(u / 44.0)
        near = np.exp(-(below * below + aside * aside))
        u1 = u * (1.0 + (1.0 / self.width_factor(pose) - 1.0) * near)
        corner = np.exp(-np.square((np.abs(u1) - self.half) / 10.0) - np.square((v - self.y) / 12.0))
        return u1, v + pose.smile * corner

    def unfold(self, u1: Array, v1: Array, pose: MouthPose) -> Array:
        """Undo the opening: the height at rest of points already without spread and smile."""
        line = self.line(u1)
        up, down = self.gaps(u1, pose)
        away = v1 - line
        above = np.maximum(-up - away, 0.0)
        below = np.maximum(away - down, 0.0)
        far = np.abs(u1) / 62.0
        chin = 0.92 * (1.0 - self.person.lip_lift) * pose.gap * np.exp(-(far * far * far))
        fall = down + (chin - down) * smoothstep(0.0, CHIN_RAMP_MM, below)
        rest = np.where(away < 0.0, v1 + np.minimum(up, -away) * np.exp(-above / 10.0), v1 - fall)
        rest = np.where((away > -up) & (away < down), line, rest)
        if pose.press > 0.0:
            offset = rest - line
            rest = line + offset * (1.0 + 0.22 * pose.press * np.exp(-((offset / 7.0) ** 2)))
        return rest

    def rest(self, u: Array, v: Array, pose: MouthPose) -> tuple[Array, Array]:
        """Where points of the moving face lie in the face at rest."""
        u1, v1 = self.unsmile(u, v, pose)
        return u1, self.unfold(u1, v1, pose)

    def paint(self, picture: Array, u: Array, v: Array, pose: MouthPose, pixel_mm: float, level: float) -> None:
        """Draw the inside of the mouth into `picture` [h, w, 3] (linear light) whose points are (u, v).

        `pixel_mm` is the width of a pixel, for edges one pixel soft; `level` is the light that reaches the mouth.
        """
        if pose.gap < 0.15:
            return
        u1, v1 = self.unsmile(u, v, pose)
        line = self.line(u1)
        up, down = self.gaps(u1, pose)
        top, bottom = line - up, line + down
        edge = 0.6 * pixel_mm
        inside = smoothstep(-edge, edge, v1 - top) * smoothstep(-edge, edge, bottom - v1)
        inside *= smoothstep(0.0, 0.5, up + down)
        colour = self._inside_colour(u, v1, top, bottom, pose, edge) * level
        picture += inside[..., None] * (colour - picture)

    def _inside_colour(self, u: Array, v: Array, top: Array, bottom: Array, pose: MouthPose, edge: float) -> Array:
        across = np.clip(1.0 - (u / 27.0) ** 2, 0.0, 1.0)
        depth = np.clip((v - top) / np.maximum(bottom - top, 1e-3), 0.0, 1.0)
        dark = (0.025 + 0.045 * depth * across)[..., None]
        colour = dark * np.array([1.0, 0.28, 0.26], np.float32)
        # tongue: rests on the floor of the mouth, its tip rises for t, d, n, l, th
        rise = 0.42 + 0.33 * pose.tongue
        surface = bottom - rise * (bottom - top) * np.clip(1.0 - (u / 17.0) ** 2, 0.0, 1.0) ** 0.5
        flesh = smoothstep(-1.4, 1.4, v - surface) * smoothstep(18.0, 13.0, np.abs(u))
        groove = 1.0 - 0.25 * np.exp(-((u / 1.8) ** 2))
        light = (0.45 + 0.55 * smoothstep(-0.5, 4.5, v - surface)) * groove
        tongue = light[..., None] * np.array([0.50, 0.16, 0.16], np.float32)
        colour = colour + flesh[..., None] * (tongue - colour)
        # teeth: the upper row belongs to the skull, the lower one to the jaw
        down = pose.gap * (1.0 - self.person.lip_lift)
        gum = self.y + 0.92 * down
        lower_edge = gum - 1.2 + 0.004 * u * u
        lower = smoothstep(-edge, edge, v - lower_edge) * smoothstep(17.0, 14.0, np.abs(u))
        colour += (0.55 * lower * across * smoothstep(2.0, 7.0, pose.gap * np.ones_like(u)))[..., None] * (
            self.person.teeth - colour
        )
        upper_edge = self.y + 2.2 - 0.0065 * u * u + 0.35 * np.cos(u * (2.0 * np.pi / 8.2)) * (np.abs(u) < 20)
        upper = smoothstep(-edge, edge, upper_edge - v) * smoothstep(23.0, 17.0, np.abs(u))
        seam = 1.0 - 0.22 * np.exp(-((((u + 4.1) % 8.2 - 4.1) / 0.55) ** 2))
        shade = (0.42 + 0.58 * smoothstep(0.0, 2.6, v - top)) * (0.45 + 0.55 * across) * seam
        teeth = shade[..., None] * self.person.teeth
        return colour + upper[..., None] * (teeth - colour)
