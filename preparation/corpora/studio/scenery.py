"""What surrounds the head and hardly moves: background, neck, clothes."""

from __future__ import annotations

import cv2
import numpy as np

from preparation.corpora.studio.head.canvas import Array, smoothstep
from preparation.corpora.studio.head.geometry import Head
from preparation.corpora.studio.head.identity import Identity


def paint_background(person: Identity, size: int, rng: np.random.Generator) -> Array:
    """A room out of focus, linear light [size, size, 3]."""
    ramp = np.linspace(0.0, 1.0, size, dtype=np.float32)
    x, y = np.meshgrid(ramp, ramp)
    first, second = person.background_colours
    along = np.clip(0.5 + (x - 0.5) * rng.uniform(-0.9, 0.9) + (y - 0.5) * rng.uniform(-0.9, 0.9), 0.0, 1.0)
    room = first + along[..., None] * (second - first)
    soft = 0.012 * size
    if person.background == "wall":
        edge = rng.uniform(0.1, 0.9)
        room = room * (1.0 - 0.30 * smoothstep(-0.01, 0.01, x - edge))[..., None]
    elif person.background == "window":
        left = rng.choice([-0.12, 0.72])
        for pane in range(3):
            for row in range(4):
                lit = np.zeros((size, size), np.float32)
                x0, y0 = left + 0.15 * pane, -0.05 + 0.27 * row
                cv2.rectangle(lit, _pixel(x0, y0, size), _pixel(x0 + 0.13, y0 + 0.245, size), 1.0, -1)
                room = room + lit[..., None] * (np.array([0.55, 0.62, 0.68], np.float32) - room) * 0.65
    elif person.background == "shelf":
        for row in range(5):
            board = 0.22 * row + rng.uniform(0.0, 0.05)
            place = -0.02
            while place < 1.0:
                width, height = rng.uniform(0.025, 0.07), rng.uniform(0.10, 0.18)
                tint = (
                    (first if rng.random() < 0.5 else second)
                    * float(rng.uniform(0.4, 1.5))
                    * rng.uniform(0.85, 1.15, 3).astype(np.float32)
                )
                corner = _pixel(place + width, board, size)
                cv2.rectangle(room, _pixel(place, board - height, size), corner, [float(c) for c in tint], -1)
                place += width + rng.uniform(0.0, 0.02)
        soft = 0.016 * size
    elif person.background == "bokeh":
        for _ in range(14):
            disc = np.zeros((size, size), np.float32)
            centre = _pixel(rng.random(), rng.random(), size)
            cv2.circle(disc, centre, int(size * rng.uniform(0.02, 0.06)), 1.0, -1, cv2.LINE_AA)
            glow = (0.6 * second + 0.18) * rng.uniform(0.7, 1.3, 3).astype(np.float32)
            room = room + rng.uniform(0.2, 0.5) * disc[..., None] * (glow - room)
    room = cv2.GaussianBlur(np.clip(room, 0.0, 1.0).astype(np.float32), (0, 0), soft)
    vignette = 1.0 - 0.35 * ((x - 0.5) ** 2 + (y - 0.45) ** 2)
    return (room * vignette[..., None] * np.sqrt(person.light_strength)).astype(np.float32)


def _pixel(x: float, y: float, size: int) -> tuple[int, int]:
    return int(x * size), int(y * size)


def paint_body(person: Identity, head: Head, x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Neck and clothes over picture points (x, y) in mm: colour [h, w, 3] in linear light, cover [h, w]."""
    chin = head.chin_y
    neck = 0.80 * float(head.width_at(np.array([70.0]))[0])
    drop = np.maximum(y - chin + 20.0, 0.0)
    half = neck + 0.0024 * drop**2 + 70.0 * smoothstep(chin + 26.0, chin + 80.0, y) ** 1.5
    pixel = float(x[0, 1] - x[0, 0])
    cover = smoothstep(-pixel, pixel, half - np.abs(x))
    side = np.clip(x / np.maximum(half, 1.0), -1.0, 1.0)
    toward = np.sin(np.deg2rad(person.light_azimuth))
    lit = person.fill + 0.62 * np.clip(0.55 * toward * side + 0.85 * np.sqrt(1.0 - 0.92 * side**2), 0.0, 1.2)
    under = 0.34 + 0.66 * smoothstep(chin + 2.0, chin + 30.0, y - 0.006 * x**2 + 0.10 * x * np.sign(toward))
    tendons = 1.0 - 0.07 * np.exp(-(((np.abs(x) - 17.0 - 0.1 * (chin + 30.0 - y)) / 5.0) ** 2))
    skin = person.skin * np.array([0.98, 0.90, 0.88], np.float32)
    colour = skin * (lit * under * tendons)[..., None] * person.light_colour
    edge = _collar(person, chin, x)
    cloth = smoothstep(-pixel, pixel, y - edge)
    folds = 1.0 + 0.08 * np.sin(x / 9.0 + 3.0 * rng.random() + 0.03 * y) * np.sin(y / 14.0 + x / 40.0)
    fabric = person.clothes * ((0.35 + 0.65 * lit) * folds)[..., None] * person.light_colour
    seam = np.exp(-(((y - edge - 2.5) / 1.2) ** 2)) if person.collar in ("crew", "turtleneck") else 0.0 * y
    fabric = fabric * (1.0 - 0.25 * seam)[..., None]
    if person.collar == "shirt":
        flap = smoothstep(-pixel, pixel, 20.0 - (y - edge)) * smoothstep(4.0, 10.0, np.abs(x))
        fabric = fabric + flap[..., None] * 0.35 * (np.sqrt(fabric) - fabric)
    shadow = 1.0 - 0.35 * np.exp(-np.maximum(edge - y, 0.0) / 4.0) * (1.0 - cloth)
    colour = colour * shadow[..., None] + cloth[..., None] * (fabric - colour * shadow[..., None])
    return (colour * person.light_strength).astype(np.float32), cover.astype(np.float32)


def _collar(person: Identity, chin: float, x: Array) -> Array:
    """Height of the upper edge of the clothes at x."""
    return {
        "crew": chin + 26.0 - 0.010 * x**2,
        "shirt": chin + 34.0 - 0.55 * np.abs(x) - 0.001 * x**2,
        "turtleneck": chin + 8.0 - 0.003 * x**2,
        "v": chin + 44.0 - 0.75 * np.abs(x),
    }[person.collar]
