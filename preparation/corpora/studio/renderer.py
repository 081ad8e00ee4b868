"""Draw a person: the height field is rotated, its mouth opened, lit, and laid over neck and background.

For each pixel of a frame, the renderer finds which point of the head at rest it shows (relief mapping: a few
fixed-point steps on the height field), looks up its colour and relief, lights them, then draws eyes, mouth and glasses.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preparation.corpora.studio.head import canvas
from preparation.corpora.studio.head.camera import PIVOT, Camera, HeadPose, camera_of
from preparation.corpora.studio.head.canvas import Array
from preparation.corpora.studio.head.eyes import Eye
from preparation.corpora.studio.head.geometry import Head, build_head, normals, occlusion
from preparation.corpora.studio.head.glasses import draw_glasses, frame_lines
from preparation.corpora.studio.head.hair import back_hair, lay_hair
from preparation.corpora.studio.head.identity import Identity
from preparation.corpora.studio.head.mouth import Lips
from preparation.corpora.studio.head.surface import paint_surface
from preparation.corpora.studio.motion import FacePose
from preparation.corpora.studio.scenery import paint_background, paint_body

SUPERSAMPLING = 2
RELIEF_STEPS = 3
JAW_TOP_MM = 18.0  # above this height nothing moves with the mouth
WRAP = np.array([0.42, 0.26, 0.22], np.float32)  # light that skin carries past the terminator, by channel


@dataclass(frozen=True)
class Sculpture:
    """A person ready to be drawn: maps on the canvas and layers in the picture (see the module's docstring).

    `paint` float32 [H, W, 4]: linear albedo and opacity. `relief` float32 [H, W, 4]: normal x, normal y, occlusion,
    gloss. `height` float32 [H, W] mm, softened for the relief steps.
    """

    person: Identity
    head: Head
    camera: Camera
    eyes: tuple[Eye, Eye]
    lips: Lips
    paint: Array
    relief: Array
    height: Array
    background: Array
    body: Array
    glasses: list[Array]


def sculpt(person: Identity, size: int, rng: np.random.Generator) -> Sculpture:
    """Build the maps of a person once; `size` is the side of the frames in pixels."""
    head = build_head(person)
    eyes = (
        Eye(person, -1.0, -head.eye_x, 0.4 * person.asymmetry),
        Eye(person, 1.0, head.eye_x, -0.4 * person.asymmetry),
    )
    lips = Lips(person, head.mouth_y)
    surface = paint_surface(person, head, eyes, lips, rng)
    lay_hair(surface, person, head, rng)
    normal = normals(canvas.blur(surface.height, 0.9))
    shade = occlusion(surface.height) * surface.shade
    # Where the surface is steeper than the view's tangent, the fixed point would jump, so a softer copy is used.
    height = canvas.blur(surface.height, 2.5)
    paint = np.dstack([surface.colour, surface.cover]).astype(np.float32)
    relief = np.dstack([normal[..., 0], normal[..., 1], shade, surface.gloss]).astype(np.float32)
    camera = camera_of(size, person.eye_distance, 1.0 + 0.03 * float(rng.uniform(-1.0, 1.0)))
    background = paint_background(person, size * SUPERSAMPLING, rng)
    body = _body(person, head, camera, rng)
    return Sculpture(
        person, head, camera, eyes, lips, paint, relief, height, background, body, frame_lines(person, head)
    )


def _body(person: Identity, head: Head, camera: Camera, rng: np.random.Generator) -> Array:
    """Neck and clothes with the hair behind them, premultiplied [h, w, 4] in the picture."""
    x, y = camera.points(SUPERSAMPLING)
    colour, cover = paint_body(person, head, x, y, rng)
    layer = np.dstack([colour * cover[..., None], cover])
    behind = back_hair(person, head, rng)
    if behind is not None:
        hair = canvas.sample(np.dstack([behind[0] * behind[1][..., None], behind[1]]), x, y)
        layer = layer + (1.0 - cover)[..., None] * hair
    return layer.astype(np.float32)


def _surface_points(sculpture: Sculpture, pose: FacePose, x: Array, y: Array) -> tuple[Array, Array]:
    """The point (u, v) in mm of the moving head, seen from the front, that each picture point (x, y) shows."""
    rotation = pose.head.rotation().astype(np.float32)
    inverse = np.linalg.inv(rotation[:2, :2])
    lean = inverse @ rotation[:2, 2]
    dx, dy = x - (PIVOT[0] + pose.head.shift_x), y - (PIVOT[1] + pose.head.shift_y)
    flat_u = inverse[0, 0] * dx + inverse[0, 1] * dy + PIVOT[0]
    flat_v = inverse[1, 0] * dx + inverse[1, 1] * dy + PIVOT[1]
    depth = np.full_like(x, 70.0)
    u, v = flat_u, flat_v
    for step in range(RELIEF_STEPS):
        u = flat_u - lean[0] * (depth - PIVOT[2])
        v = flat_v - lean[1] * (depth - PIVOT[2])
        if step < RELIEF_STEPS - 1:
            rest_u, rest_v = _rest(sculpture, pose, u, v)
            depth = canvas.sample(sculpture.height, rest_u, rest_v)
    return u, v


def _rest(sculpture: Sculpture, pose: FacePose, u: Array, v: Array) -> tuple[Array, Array]:
    """The point of the head at rest that has moved to (u, v): the motion of mouth and brows is undone."""
    rest_u, rest_v = u.copy(), v.copy()
    moving = np.flatnonzero(v.max(axis=1) > JAW_TOP_MM)
    if len(moving):
        part = slice(int(moving[0]), None)
        rest_u[part], rest_v[part] = sculpture.lips.rest(u[part], v[part], pose.mouth)
    raised = np.flatnonzero((v.max(axis=1) > -48.0) & (v.min(axis=1) < -6.0))
    if len(raised):
        part = slice(int(raised[0]), int(raised[-1]) + 1)
        rest_v[part] += pose.brow_mm * np.exp(-(((v[part] + 20.0) / 8.5) ** 2))
    return rest_u, rest_v


def render(sculpture: Sculpture, pose: FacePose) -> NDArray[np.uint8]:
    """One frame, uint8 [size, size, 3] RGB."""
    person, camera = sculpture.person, sculpture.camera
    x, y = camera.points(1)
    u, v = _surface_points(sculpture, pose, x, y)
    large = (camera.size * SUPERSAMPLING, camera.size * SUPERSAMPLING)
    u, v = cv2.resize(u, large), cv2.resize(v, large)
    rest_u, rest_v = _rest(sculpture, pose, u, v)
    columns, rows = canvas.lookup(rest_u, rest_v)
    paint = cv2.remap(sculpture.paint, columns, rows, cv2.INTER_LINEAR)
    relief = cv2.remap(sculpture.relief, columns, rows, cv2.INTER_LINEAR)
    skin = _light(person, pose.head, paint, relief)

    pixel_mm = 1.0 / (camera.scale * SUPERSAMPLING)
    level = 0.85 * person.light_strength
    light_x = 1.0 if person.light_azimuth > 0.0 else -1.0
    for eye in sculpture.eyes:
        part = _window(camera, pose.head, sculpture, eye.x, eye.y, 24.0, 14.0)
        eye.paint(skin[part], u[part], v[part], pose.eyes, pixel_mm, level, light_x)
    part = _window(camera, pose.head, sculpture, 0.0, sculpture.lips.y + 0.4 * pose.mouth.gap, 36.0, 22.0)
    sculpture.lips.paint(skin[part], u[part], v[part], pose.mouth, pixel_mm, level)

    picture = _stage(sculpture, pose.head)
    cover = paint[..., 3:]
    picture += cover * (skin - picture)
    draw_glasses(picture, sculpture.glasses, person, camera, pose.head, SUPERSAMPLING)
    return _develop(picture, camera.size)


def _window(
    camera: Camera, pose: HeadPose, sculpture: Sculpture, x: float, y: float, half_x: float, half_y: float
) -> tuple[slice, slice]:
    """The rows and columns of the large picture that hold a box of the face around (x, y)."""
    depth = canvas.sample(sculpture.height, np.array([[x]], np.float32), np.array([[y]], np.float32))
    centre = camera.project(np.array([[x, y, float(depth[0, 0])]], np.float32), pose)[0] * SUPERSAMPLING
    reach = np.array([half_x, half_y]) * camera.scale * SUPERSAMPLING
    limit = camera.size * SUPERSAMPLING
    low = np.clip(np.floor(centre - reach), 0, limit).astype(int)
    high = np.clip(np.ceil(centre + reach), 0, limit).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _light(person: Identity, pose: HeadPose, paint: Array, relief: Array) -> Array:
    """Shade the looked-up surface: key light with a soft terminator, sky and fill, one broad highlight."""
    azimuth, elevation = np.deg2rad([person.light_azimuth, person.light_elevation])
    key = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    turn = pose.rotation().T
    key_head = (turn @ key).astype(np.float32)
    half = key + np.array([0.0, 0.0, 1.0])
    half_head = (turn @ (half / np.linalg.norm(half))).astype(np.float32)
    nx, ny = relief[..., 0], relief[..., 1]
    nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
    shade, gloss = relief[..., 2], relief[..., 3]
    facing = nx * key_head[0] + ny * key_head[1] + nz * key_head[2]
    sky = person.fill * (0.80 - 0.12 * ny) * shade
    strength = 0.92 * person.light_strength
    shine = np.maximum(nx * half_head[0] + ny * half_head[1] + nz * half_head[2], 0.0)
    for _ in range(4):
        shine = shine * shine
    shine *= 0.075 * strength * gloss * shade
    lit = np.empty_like(paint[..., :3])
    key_shade = 0.35 + 0.65 * shade
    for channel in range(3):
        wrap = WRAP[channel]
        diffuse = np.maximum((facing + wrap) / (1.0 + wrap), 0.0) * key_shade
        radiance = diffuse * (strength * person.light_colour[channel]) + sky
        lit[..., channel] = paint[..., channel] * radiance + shine
    return lit


def _stage(sculpture: Sculpture, pose: HeadPose) -> Array:
    """Background and the body, which follows the head a little."""
    scale = sculpture.camera.scale * SUPERSAMPLING
    move_x = (0.6 * pose.shift_x + 0.25 * pose.yaw) * scale
    move_y = (0.6 * pose.shift_y + 0.10 * pose.pitch) * scale
    matrix = np.array([[1.0, 0.0, move_x], [0.0, 1.0, move_y]])
    side = sculpture.background.shape[0]
    body = cv2.warpAffine(sculpture.body, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    return sculpture.background * (1.0 - body[..., 3:]) + body[..., :3]


def _develop(picture: Array, size: int) -> NDArray[np.uint8]:
    """The picture in linear light as uint8 [size, size, 3]: averaged while linear, then a soft shoulder and gamma 2."""
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    small = np.maximum(small, 0.0)
    small = np.sqrt(small * (1.0 + 0.10 * small) / (1.0 + 0.38 * small) * 1.12)
    return np.clip(small * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
