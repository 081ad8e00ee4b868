"""The painted surface of a face at rest: skin, lips, lids, brows, beard, ears, and its gloss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preparation.corpora.studio.head import canvas
from preparation.corpora.studio.head.canvas import Array, bump, pair, smoothstep
from preparation.corpora.studio.head.eyes import UPPER_MM, Eye
from preparation.corpora.studio.head.geometry import Head
from preparation.corpora.studio.head.identity import Identity
from preparation.corpora.studio.head.mouth import Lips


@dataclass
class Surface:
    """Maps on the canvas, float32: `colour` [H, W, 3] linear albedo, `cover` [H, W] opacity, `height` [H, W] mm,
    `gloss` [H, W] strength of the highlight, `shade` [H, W] extra occlusion."""

    colour: Array
    cover: Array
    height: Array
    gloss: Array
    shade: Array

    def blend(self, mask: Array, colour: Array) -> None:
        """Cover the albedo by `colour` ([3] or [H, W, 3]) where `mask` [H, W] is 1."""
        self.colour += mask[..., None] * (colour - self.colour)


def paint_surface(person: Identity, head: Head, eyes: tuple[Eye, Eye], lips: Lips, rng: np.random.Generator) -> Surface:
    """Everything that belongs to the skin; hair is laid over it afterwards."""
    surface = Surface(
        colour=_skin(person, head, rng),
        cover=head.inside.copy(),
        height=head.height.copy(),
        gloss=0.55 + 0.5 * bump(0.0, head.nose_y, 9.0, 9.0) + 0.4 * bump(0.0, -42.0, 36.0, 16.0)
        + 0.25 * pair(42.0, 24.0, 12.0, 8.0),
        shade=np.ones_like(head.height),
    )  # fmt: skip
    _ears(surface, person, head)
    _nostrils(surface, person, head)
    for eye in eyes:
        _lid(surface, person, eye)
    _beard(surface, person, head, lips, rng)
    _lips(surface, person, lips, rng)
    for eye in eyes:
        _brow(surface, person, eye, rng)
    return surface


def _skin(person: Identity, head: Head, rng: np.random.Generator) -> Array:
    mottle = canvas.blur(canvas.noise(rng, 7.0, 7.0), 1.5) * 0.035 + canvas.noise(rng, 1.6, 1.6) * 0.018
    blood = 0.9 * pair(40.0, 30.0, 15.0, 12.0) + 0.8 * bump(0.0, head.nose_y + 1.0, 12.0, 9.0)
    blood += 0.35 * bump(0.0, head.chin_y - 14.0, 16.0, 9.0) + 0.2 * bump(0.0, -50.0, 50.0, 20.0)
    blood = person.ruddiness * (blood + 1.5 * mottle)
    colour = person.skin * (1.0 + mottle)[..., None]
    colour = colour * (1.0 + blood[..., None] * np.array([0.05, -0.16, -0.13], np.float32))
    tired = pair(person.eye_distance / 2.0 - 1.0, 9.0, 10.0, 4.5) * (0.09 + 0.12 * person.age)
    sockets = pair(person.eye_distance / 2.0 - 8.0, -4.0, 8.0, 6.0) * 0.12
    colour *= (1.0 - tired - sockets)[..., None] ** np.array([0.8, 1.1, 1.0], np.float32)
    if person.freckles > 0.0:
        spots = np.clip(canvas.noise(rng, 2.2, 2.2) - 1.0, 0.0, 1.0) * (pair(30.0, 26.0, 22.0, 14.0) + 0.2)
        colour *= 1.0 - np.clip(0.45 * person.freckles * spots, 0.0, 0.6)[..., None] * np.array(
            [0.5, 0.8, 1.0], np.float32
        )
    return colour.astype(np.float32)


def _ears(surface: Surface, person: Identity, head: Head) -> None:
    middle, size = 22.0, person.ear_size
    edge = float(head.width_at(np.array([middle]))[0])
    for side in (-1.0, 1.0):
        dx = side * canvas.X - (edge + 3.0)
        dy = canvas.Y - middle
        dx = dx - 0.14 * -dy  # the ear leans outwards at its top
        lobe = (dx / (9.5 * size)) ** 2 + (dy / (31.0 * size)) ** 2 + 0.25 * (dy / 31.0) * (dx / 9.5)
        shape = smoothstep(1.06, 0.94, lobe)
        mask = shape * (1.0 - head.inside)
        rim = smoothstep(0.45, 0.85, lobe)
        shell = np.exp(-(((dx + 2.0) / 4.0) ** 2) - ((dy - 2.0) / 12.0) ** 2)
        surface.blend(mask, person.skin * np.array([1.0, 0.84, 0.82], np.float32) * (0.72 + 0.34 * rim)[..., None])
        surface.shade *= 1.0 - mask * 0.5 * shell
        surface.height = np.where(mask > 0.0, np.maximum(surface.height, mask * (4.0 + 5.0 * rim)), surface.height)
        surface.cover = np.maximum(surface.cover, shape)
        surface.gloss *= 1.0 - 0.6 * mask


def _nostrils(surface: Surface, person: Identity, head: Head) -> None:
    width = person.nose_width
    for side in (-1.0, 1.0):
        dx, dy = side * canvas.X - 6.6 * width, canvas.Y - (head.nose_y + 6.0)
        dy = dy + 0.20 * dx
        hole = np.exp(-(((dx / (2.9 * width)) ** 2 + (dy / 1.6) ** 2) ** 1.2))
        surface.blend(0.72 * hole, person.skin * np.array([0.16, 0.09, 0.08], np.float32))
        crease = np.exp(-(((side * canvas.X - 16.8 * width) / 1.8) ** 2) - ((canvas.Y - head.nose_y - 3.0) / 5.0) ** 2)
        surface.shade *= 1.0 - 0.28 * crease
    surface.shade *= 1.0 - 0.15 * bump(0.0, head.nose_y + 11.0, 12.0, 3.6)


def _lid(surface: Surface, person: Identity, eye: Eye) -> None:
    """The fold over the eye and the soft line under it, on the shut lid."""
    t, height = eye.local(canvas.X, canvas.Y)
    within = np.clip(t, -1.05, 1.05)
    fade = smoothstep(1.25, 0.8, np.abs(t))
    arch = -(UPPER_MM * person.eye_size * person.eye_opening + 1.2 + 2.2 * person.lid_fold) * (1.0 - 0.62 * within**2)
    crease = np.exp(-(((height - arch) / 0.95) ** 2)) * fade
    surface.shade *= 1.0 - (0.22 + 0.26 * person.lid_fold) * crease
    lidded = smoothstep(0.0, 1.5, height - arch) * smoothstep(4.0, 0.0, height) * fade
    surface.colour *= 1.0 - lidded[..., None] * np.array([0.06, 0.13, 0.11], np.float32)
    bag = np.exp(-(((height - 8.2 * person.eye_size + 2.5 * within**2) / 1.3) ** 2)) * fade
    surface.shade *= 1.0 - (0.06 + 0.14 * person.age) * bag


def _lips(surface: Surface, person: Identity, lips: Lips, rng: np.random.Generator) -> None:
    x = canvas.X
    away = canvas.Y - lips.line(x)
    upper, lower = lips.upper(x), lips.lower(x)
    soft = 0.8
    within = smoothstep(lips.half + 0.8, lips.half - 1.0, np.abs(x))
    mask = smoothstep(-soft, soft, away + upper) * smoothstep(-soft, soft, lower - away) * within
    wrinkles = 1.0 + 0.055 * canvas.noise(rng, 1.3, 9.0)
    tone = np.where(away < 0.0, 0.84, 1.04) * wrinkles
    tone += 0.30 * person.lip_gloss * bump(0.0, lips.y + 0.50 * person.lower_lip, 0.30 * lips.half, 1.3) * wrinkles
    tone *= 1.0 - 0.25 * smoothstep(0.6, 1.0, np.abs(x) / lips.half)
    surface.blend(0.93 * mask, person.lips * tone[..., None])
    surface.gloss = surface.gloss * (1.0 - mask) + mask * (0.5 + 1.6 * person.lip_gloss)
    # where the lips meet, and the shadow under the lower one
    seam = np.exp(-((away / 0.75) ** 2)) * smoothstep(lips.half + 1.5, lips.half - 1.5, np.abs(x))
    surface.shade *= 1.0 - 0.72 * seam
    surface.shade *= 1.0 - 0.22 * pair(lips.half + 1.0, lips.y, 2.0, 1.8)
    surface.shade *= 1.0 - 0.16 * bump(0.0, lips.y + person.lower_lip + 3.6, 14.0, 2.2)


def _brow(surface: Surface, person: Identity, eye: Eye, rng: np.random.Generator) -> None:
    outward = (canvas.X - eye.x) * eye.side
    along = np.clip((outward + 15.0) / 36.0, 0.0, 1.0)
    centre = brow_height(person, eye, along)
    thick = person.brow_thickness * (3.7 - 2.3 * along) * smoothstep(-0.02, 0.16, along + 0.05)
    hairs = canvas.noise(rng, 1.5, 2.6)
    distance = (canvas.Y - centre) / np.maximum(thick, 0.5)
    mask = np.exp(-(np.abs(distance) ** 2.6)) * smoothstep(-17.0, -11.0, outward) * smoothstep(23.0, 17.0, outward)
    mask = np.clip(mask * (person.brow_strength + 0.16 * hairs), 0.0, 0.96)
    shade = person.hair * np.float32(0.45) + person.skin * np.float32(0.03)
    surface.blend(mask, np.minimum(shade, 0.45 * person.skin).astype(np.float32))
    surface.gloss *= 1.0 - 0.8 * mask


def brow_height(person: Identity, eye: Eye, along: Array) -> Array:
    """Height in mm of the brow's middle; `along` in [0, 1] from the nose outwards."""
    arch = person.brow_arch * 4.2 * np.sin(np.pi * np.clip(along, 0.0, 1.0) ** 1.35)
    return eye.y - 16.6 + person.brow_height - arch + 1.6 * along


def _beard(surface: Surface, person: Identity, head: Head, lips: Lips, rng: np.random.Generator) -> None:
    if person.beard == "none":
        return
    hairs = canvas.noise(rng, 1.3, 2.6)
    region = _beard_region(person, head, lips, 1.3 * hairs)
    if person.beard == "stubble":
        density = 0.34 * person.beard_strength * region * np.clip(1.0 + 0.30 * hairs, 0.0, 2.0)
        colour = person.skin * np.float32(0.25) + person.hair * np.float32(0.3)
    else:
        density = np.clip(region * (0.93 + 0.10 * hairs), 0.0, 0.97)
        colour = person.hair * np.clip(0.72 + 0.17 * hairs, 0.3, 1.2)[..., None]
        surface.height = surface.height + canvas.blur(region, 2.0) * (2.0 + 0.22 * hairs)
    surface.blend(density, colour.astype(np.float32))
    surface.gloss = surface.gloss * (1.0 - 0.7 * region)


def _beard_region(person: Identity, head: Head, lips: Lips, ragged: Array) -> Array:
    """Where the beard grows, [H, W] in [0, 1]; `ragged` mm push its edges in and out."""
    x, y = np.abs(canvas.X) + ragged, canvas.Y + ragged
    corner = lips.half
    cheek_line = np.minimum(34.0 + 40.0 * np.exp(-(((x - 10.0) / 27.0) ** 2)), lips.y + 12.0)
    jaw = smoothstep(-6.0, 7.0, y - cheek_line) * smoothstep(7.0, 15.0, x + 0.6 * (y - 52.0))
    # The moustache follows the upper lip and droops around its corners.
    rim = lips.y - person.upper_lip * np.clip(1.0 - (x / corner) ** 2, 0.0, 1.0) + 3.5 * (x / corner) ** 4
    top = head.nose_y + 10.0 + 9.5 * (x / corner) ** 2
    moustache = (
        smoothstep(-2.0, 2.5, y - top) * smoothstep(2.5, -0.5, y - rim) * smoothstep(corner + 5.0, corner - 3.0, x)
    )
    moustache *= 0.55 + 0.45 * smoothstep(0.3, 4.5, x)
    chin_top = lips.y + person.lower_lip + 4.0 + 3.0 * np.cos(np.minimum(x / corner, 1.0) * np.pi)
    chin = smoothstep(corner + 1.0, corner - 9.0, x) * smoothstep(-2.0, 4.0, y - chin_top)
    around = smoothstep(corner + 8.0, corner + 3.0, x) * smoothstep(corner - 5.0, corner + 0.5, x)
    around *= smoothstep(lips.y - 9.0, lips.y - 2.0, y) * smoothstep(head.chin_y + 4.0, lips.y + 22.0, y)
    full = np.maximum(
        jaw * np.maximum(smoothstep(corner - 2.0, corner + 6.0, x), smoothstep(-3.0, 4.0, y - chin_top)), moustache
    )
    region = {
        "stubble": full,
        "full": full,
        "goatee": np.maximum(np.maximum(moustache, chin), around),
        "moustache": moustache,
    }[person.beard]
    return (region * smoothstep(0.0, 6.0, head.half_width[:, None] - np.abs(canvas.X))).astype(np.float32)
