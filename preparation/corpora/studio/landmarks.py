"""Ground truth of a drawn face: iBUG's 68 points and the mouth's opening, from the same geometry as the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preparation.corpora.studio.head import canvas
from preparation.corpora.studio.head.canvas import Array
from preparation.corpora.studio.head.eyes import Eye, EyePose
from preparation.corpora.studio.head.mouth import Lips, MouthPose
from preparation.corpora.studio.head.surface import brow_height
from preparation.corpora.studio.motion import FacePose
from preparation.corpora.studio.renderer import Sculpture

INVERSE_STEPS = 8
BISECTIONS = 18


def measure(sculpture: Sculpture, pose: FacePose) -> tuple[Array, float]:
    """Landmarks float32 [68, 2] in frame pixels (x, y), iBUG order, left of the picture first; and the inner-lip
    gap at the mouth's middle over the distance of the eye centres, both in the head's own plane."""
    moving, rest = _points(sculpture, pose)
    depth = canvas.sample(sculpture.height, rest[:, :1].copy(), rest[:, 1:].copy())
    landmarks = sculpture.camera.project(np.concatenate([moving, depth], axis=1), pose.head)
    eyes = moving[42:48].mean(axis=0) - moving[36:42].mean(axis=0)
    return landmarks, float((moving[66, 1] - moving[62, 1]) / np.linalg.norm(eyes))


def _points(sculpture: Sculpture, pose: FacePose) -> tuple[Array, Array]:
    """All 68 points in mm, as (moved positions, positions at rest), each float32 [68, 2]."""
    head, person = sculpture.head, sculpture.person
    angle = np.linspace(0.0, 1.0, 17)
    jaw_y = np.concatenate(
        [
            np.interp(angle[:8], [0, 0.25, 0.44], [4.0, 52.0, 92.0]) * person.face_length,
            [head.chin_y],
        ]
    )
    jaw_x = 0.975 * head.width_at(jaw_y)
    jaw_x[8] = 0.0
    right = np.stack([jaw_x[:8][::-1], jaw_y[:8][::-1]], axis=1)
    jaw = np.concatenate([np.stack([-jaw_x[:9], jaw_y[:9]], axis=1), right])
    brows = np.concatenate([_brow(eye, sculpture) for eye in sculpture.eyes])
    nose_y, width = head.nose_y, person.nose_width
    bridge = np.stack([np.zeros(4), np.linspace(0.0, nose_y, 4)], axis=1)
    base_x = np.array([-13.0, -6.5, 0.0, 6.5, 13.0]) * width
    base = np.stack([base_x, nose_y + np.array([6.0, 8.0, 9.0, 8.0, 6.0])], axis=1)
    rest = np.concatenate([jaw, brows, bridge, base]).astype(np.float32)
    moving = _move(sculpture.lips, rest, pose.mouth)
    moving[17:27, 1] -= pose.brow_mm
    eyes = np.concatenate([eye_points(eye, pose.eyes) for eye in sculpture.eyes])
    mouth, mouth_rest = lip_points(sculpture.lips, pose.mouth)
    return np.concatenate([moving, eyes, mouth]), np.concatenate([rest, eyes, mouth_rest])


def _brow(eye: Eye, sculpture: Sculpture) -> NDArray[np.float32]:
    along = np.linspace(0.06, 0.94, 5)
    x = eye.x + eye.side * (along * 36.0 - 15.0)
    points = np.stack([x, brow_height(sculpture.person, eye, along.astype(np.float32))], axis=1)
    return (points[::-1] if eye.side < 0 else points).astype(np.float32)


def eye_points(eye: Eye, pose: EyePose) -> Array:
    """Six points of the lids in mm, [6, 2]: from the left corner over the upper lid, back along the lower."""
    outer_first = np.array([1.0, 0.36, -0.36, -1.0, -0.36, 0.36], np.float32)
    t = outer_first if eye.side < 0 else np.array([-1.0, -0.36, 0.36, 1.0, 0.36, -0.36], np.float32)
    upper, lower = eye.lids(t, pose)
    height = np.array([0.0, upper[1], upper[2], 0.0, lower[4], lower[5]], np.float32)
    outward = t * eye.half
    y = height - eye.person.eye_tilt * outward + eye.y
    return np.stack([eye.x + eye.side * outward, y], axis=1).astype(np.float32)


def lip_points(lips: Lips, pose: MouthPose) -> tuple[Array, Array]:
    """Twenty points of the lips in mm: moved positions and positions at rest, each [20, 2]."""
    outer_x = np.array([-1.0, -0.62, -0.22, 0.0, 0.22, 0.62, 1.0, 0.62, 0.24, 0.0, -0.24, -0.62], np.float32)
    x = outer_x * lips.half
    offset = np.concatenate([-lips.upper(x[:7]), lips.lower(x[7:])])
    outer_rest = np.stack([x, lips.line(x) + offset], axis=1).astype(np.float32)
    inner = np.array([-0.96, -0.42, 0.0, 0.42, 0.96, 0.42, 0.0, -0.42], np.float32) * lips.inner_half
    line = lips.line(inner)
    inner_rest = np.stack([inner, line], axis=1).astype(np.float32)
    up, down = lips.gaps(inner, pose)
    opened = line + np.array([0, -1, -1, -1, 0, 1, 1, 1], np.float32) * np.where(
        np.arange(8) < 4, up, np.where(np.arange(8) > 4, down, 0.0)
    )
    half_open = np.stack([inner, opened], axis=1).astype(np.float32)
    inner_moving = _unsmiled(lips, half_open, pose)
    return np.concatenate([_move(lips, outer_rest, pose), inner_moving]), np.concatenate([outer_rest, inner_rest])


def _move(lips: Lips, rest: Array, pose: MouthPose) -> Array:
    """Moved positions of points of the face at rest [N, 2]: the inverse of `Lips.rest`, by bisection of the height.

    At fixed u1 the height at rest grows with the moving height, so bisection cannot fail.
    """
    low, high = rest[:, 1] - 12.0, rest[:, 1] + 40.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        value = lips.unfold(rest[:, 0], middle, pose)
        below = value < rest[:, 1]
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return _unsmiled(lips, np.stack([rest[:, 0], 0.5 * (low + high)], axis=1).astype(np.float32), pose)


def _unsmiled(lips: Lips, target: Array, pose: MouthPose) -> Array:
    """The inverse of `Lips.unsmile` for points [N, 2], by fixed-point steps (its displacements are gentle)."""
    point = target.copy()
    for _ in range(INVERSE_STEPS):
        u1, v1 = lips.unsmile(point[:, 0], point[:, 1], pose)
        point = point + (target - np.stack([u1, v1], axis=1))
    return point.astype(np.float32)
