"""Spectacle frames: lines in space before the eyes, projected and drawn with soft edges."""

from __future__ import annotations

import cv2
import numpy as np

from preparation.corpora.studio.head.camera import Camera, HeadPose
from preparation.corpora.studio.head.canvas import Array
from preparation.corpora.studio.head.geometry import Head
from preparation.corpora.studio.head.identity import Identity

SHIFT = 4  # fractional bits of cv2's line coordinates
LENS_DEPTH = 12.0  # mm before the eyes


def frame_lines(person: Identity, head: Head) -> list[Array]:
    """Polylines float32 [N, 3] in mm: two rims, the bridge, two temples."""
    if person.glasses == "none":
        return []
    square = {"round": 2.0, "square": 4.5, "thin": 3.0}[person.glasses]
    half_x, half_y = {"round": (21.0, 19.5), "square": (24.0, 17.0), "thin": (23.0, 14.5)}[person.glasses]
    angle = np.linspace(0.0, 2.0 * np.pi, 49)
    round_x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2.0 / square)
    round_y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2.0 / square)
    depth = 92.0 + LENS_DEPTH
    lines = []
    for side in (-1.0, 1.0):
        x = side * (head.eye_x + 1.5) + half_x * round_x
        y = 2.0 + half_y * round_y
        bend = 0.006 * x**2
        lines.append(np.stack([x, y, depth - bend], axis=1))
        ear = float(head.width_at(np.array([0.0]))[0]) + 1.0
        hinge = side * (head.eye_x + 1.5 + half_x)
        temple = np.array([[hinge, -3.0, depth - 0.006 * hinge**2], [side * ear, -1.0, 20.0]])
        if person.hair_style in ("long", "bob", "curly"):  # the hair falls over it
            temple[1] = temple[0] + 0.3 * (temple[1] - temple[0])
        lines.append(temple)
    inner = head.eye_x + 1.5 - half_x
    across = np.linspace(-inner, inner, 9)
    lines.append(np.stack([across, -2.0 - 3.0 * (1.0 - (across / inner) ** 2), np.full(9, depth)], axis=1))
    return [line.astype(np.float32) for line in lines]


def draw_glasses(
    picture: Array, lines: list[Array], person: Identity, camera: Camera, pose: HeadPose, factor: int
) -> None:
    """Blend the frame into `picture` [h, w, 3] in linear light, `factor` times larger than the camera's frame."""
    if not lines:
        return
    thickness_mm = {"round": 2.2, "square": 3.0, "thin": 1.3}[person.glasses]
    thickness = max(1, round(thickness_mm * camera.scale * factor))
    mask = np.zeros(picture.shape[:2], np.uint8)
    for line in lines:
        pixels = (camera.project(line, pose) * factor - 0.5) * (1 << SHIFT)
        cv2.polylines(mask, [np.round(pixels).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, SHIFT)
    rows = np.flatnonzero(mask.any(axis=1))
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    cover = mask[part].astype(np.float32)[..., None] * np.float32(0.92 / 255.0)
    picture[part] += cover * (person.glasses_colour - picture[part])
