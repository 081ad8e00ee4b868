"""Hair in front of the head (part of the height field) and behind it (a flat layer)."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

from preparation.corpora.studio.head import canvas
from preparation.corpora.studio.head.canvas import Array, smoothstep
from preparation.corpora.studio.head.geometry import Head
from preparation.corpora.studio.head.identity import Identity
from preparation.corpora.studio.head.surface import Surface

# Height of the hairline by |x|: millimetres, before the identity's own shift.
HAIRLINES = {
    "short": ((0, -66), (25, -66), (42, -60), (52, -48), (58, -30), (64, -14), (67, 6), (70, 12), (90, 8)),
    "side": ((0, -60), (25, -62), (42, -56), (52, -44), (58, -28), (64, -12), (67, 8), (70, 14), (90, 8)),
    "buzz": ((0, -68), (25, -66), (42, -62), (50, -52), (58, -34), (66, -18), (69, 0), (90, 0)),
    "receding": ((0, -78), (18, -80), (36, -86), (50, -74), (58, -44), (65, -22), (68, 2), (90, 6)),
    "curly": ((0, -62), (25, -60), (42, -54), (54, -38), (60, -16), (66, 4), (70, 16), (112, 24)),
    "long": ((0, -70), (12, -66), (30, -56), (44, -40), (53, -16), (58, 14), (60, 60), (62, 146), (112, 146)),
    "bob": ((0, -34), (25, -33), (40, -30), (50, -20), (56, 0), (59, 30), (60, 62), (64, 84), (112, 84)),
}
# Thickness over the skull at its top and at its sides.
VOLUMES = {
    "short": (9.0, 4.0), "side": (14.0, 5.0), "buzz": (3.0, 2.0), "receding": (4.0, 3.0),
    "curly": (22.0, 15.0), "long": (11.0, 13.0), "bob": (12.0, 15.0),
}  # fmt: skip


def lay_hair(surface: Surface, person: Identity, head: Head, rng: np.random.Generator) -> None:
    """Cover skull, temples and, for long hair, the ears."""
    if person.hair_style == "bald":
        return
    style = person.hair_style
    x = canvas.X + 0.6 * person.asymmetry
    points = np.array(HAIRLINES[style], np.float64)
    line = PchipInterpolator(points[:, 0], points[:, 1])(np.clip(np.abs(canvas.X[0]), 0, points[-1, 0]))
    if style == "side":
        line = line + 7.0 * np.tanh(canvas.X[0] / 14.0) * np.exp(-((canvas.X[0] / 40.0) ** 2))
    line = np.where(line < 0.0, line + person.hair_line, line).astype(np.float32)
    strands, sheen = _strands(style, x, rng)
    ragged = 2.2 * strands if style != "buzz" else 1.2 * strands
    top, side = (amount * person.hair_volume for amount in VOLUMES[style])
    down = smoothstep(-90.0, -10.0, canvas.Y)
    thickness = top + (side - top) * down
    # Long hair falls straight from the widest part of the skull.
    skull = head.half_width.copy()
    if style in ("long", "bob"):
        widest = float(head.width_at(np.array([-20.0]))[0])
        skull = np.where(canvas.Y[:, 0] > -20.0, widest, skull).astype(np.float32)
    crown = smoothstep(-125.0 - top, -112.0, canvas.Y)
    outer = skull[:, None] + thickness + (2.0 if style == "curly" else 0.8) * strands
    edge = 1.8 if style != "buzz" else 3.0
    mask = smoothstep(-edge, edge, line[None, :] + ragged - canvas.Y)
    silhouette = smoothstep(-1.0, 1.0, outer - np.abs(canvas.X))
    mask = np.clip(mask * silhouette * np.maximum(crown, 0.0), 0.0, 1.0)
    if style == "buzz":
        mask = 0.82 * mask
    depth = np.clip(1.0 - (np.abs(canvas.X) / np.maximum(outer, 1.0)) ** 2.4, 0.0, 1.0) ** 0.5
    profile = np.maximum(surface.height + 0.7 * thickness, 60.0 * depth * (1.0 if style in ("long", "bob") else 0.6))
    lifted = np.maximum(profile, surface.height + 1.0)
    surface.height = surface.height + canvas.blur(mask, 0.8) * (lifted + 0.7 * strands - surface.height)
    root = smoothstep(0.0, 14.0, line[None, :] - canvas.Y)
    tone = (0.72 + 0.21 * strands) * (0.75 + 0.35 * root)
    colour = person.hair * np.clip(tone, 0.15, 1.6)[..., None]
    colour = colour + (0.10 * sheen * np.clip(0.5 + strands, 0.0, 1.5))[..., None] * (person.hair + 0.03)
    cover_shadow = canvas.blur(mask, 4.0) * (1.0 - mask)
    surface.shade *= 1.0 - 0.35 * cover_shadow
    # Outside the bare head there is no skin for a half-covered pixel to show.
    spread = np.minimum(4.0 * cv2.dilate(mask, np.ones((5, 5), np.uint8)), 1.0)
    surface.blend(np.where(head.inside < 0.98, np.maximum(spread, mask), mask), colour.astype(np.float32))
    surface.cover = np.maximum(surface.cover, mask)
    surface.gloss = surface.gloss * (1.0 - mask) + 0.5 * mask
    surface.shade = surface.shade * (1.0 - mask) + mask


def _strands(style: str, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Noise drawn out along the hair, of about unit scale, and a band of sheen."""
    if style == "curly":
        curl = canvas.noise(rng, 4.5, 4.5) * 0.8 + canvas.noise(rng, 2.2, 2.2) * 0.5
        return curl, 0.3 * np.ones_like(x)
    if style == "buzz":
        return canvas.noise(rng, 1.6, 1.6), np.zeros_like(x)
    coarse = cv2.resize(rng.standard_normal((14, 150), np.float32), (1200, 60), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.standard_normal((9, 420), np.float32), (1200, 60), interpolation=cv2.INTER_CUBIC)
    texture = 0.62 * coarse + 0.62 * fine
    # Strands leave a point above the brow: their angle around it is the fast direction, their length the slow one.
    origin = -20.0 if style in ("short", "receding") else 40.0
    angle = np.arctan2(x, origin - canvas.Y + 1e-3)
    if style in ("long", "bob"):
        falling = smoothstep(-60.0, 10.0, canvas.Y)
        angle = angle * (1.0 - falling) + falling * np.clip(x / 75.0, -1.5, 1.5)
    if style == "side":
        angle = np.arctan2(x + 30.0, 60.0 - 0.6 * canvas.Y)
    length = np.sqrt(x * x + (canvas.Y - origin) ** 2)
    columns = (angle / np.pi * 0.5 + 0.5) * 1199.0
    strands = cv2.remap(texture, columns.astype(np.float32), (length / 5.0).astype(np.float32), cv2.INTER_LINEAR)
    sheen = np.exp(-(((length - length.min() - 62.0) / 14.0) ** 2)) if style not in ("receding",) else 0.0 * length
    return 0.75 * strands, sheen.astype(np.float32)


def back_hair(person: Identity, head: Head, rng: np.random.Generator) -> tuple[Array, Array] | None:
    """The hair behind neck and head as (colour [H, W, 3], cover [H, W]) on the canvas, or None for short hair."""
    if person.hair_style not in ("long", "bob"):
        return None
    end = {"long": 160.0, "bob": 88.0}[person.hair_style]
    wide = float(head.width_at(np.array([-20.0]))[0]) + VOLUMES[person.hair_style][1] * person.hair_volume
    strands = canvas.noise(rng, 2.0, 60.0)
    outer = wide + 1.5 * strands - 6.0 * smoothstep(40.0, end + 30.0, canvas.Y)
    cover = smoothstep(-1.2, 1.2, outer - np.abs(canvas.X)) * smoothstep(end + 4.0, end - 4.0, canvas.Y + 2.0 * strands)
    tone = np.clip(0.34 + 0.10 * strands, 0.1, 0.6)
    return (person.hair * tone[..., None]).astype(np.float32), cover.astype(np.float32)
