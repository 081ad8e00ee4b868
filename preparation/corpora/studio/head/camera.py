"""A turning head before a long lens: rotation about the neck, then parallel projection to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preparation.corpora.studio.head.canvas import Array

PIVOT = np.array([0.0, 70.0, 10.0], np.float32)  # mm; where the head turns on the neck
EYE_LINE = 0.41  # height of the eyes in the frame
EYE_DISTANCE = 40.0 / 144.0  # between eye centres, of the frame's width, before an identity's own zoom


@dataclass(frozen=True)
class HeadPose:
    """Yaw, pitch, roll in degrees (right, down, clockwise in the picture positive) and a shift in mm."""

    yaw: float
    pitch: float
    roll: float
    shift_x: float
    shift_y: float

    def rotation(self) -> NDArray[np.float64]:
        yaw, pitch, roll = np.deg2rad([self.yaw, self.pitch, self.roll])
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        return tilt @ nod @ turn


@dataclass(frozen=True)
class Camera:
    """Parallel projection: `scale` pixels a mm, `centre` the pixel (x, y) of the point between the eyes."""

    size: int
    scale: float
    centre: tuple[float, float]

    def points(self, factor: int) -> tuple[Array, Array]:
        """Picture coordinates in mm of every pixel centre of a frame with `factor` times the pixels a side."""
        pixels = (np.arange(self.size * factor, dtype=np.float32) + 0.5) / factor
        x = (pixels - self.centre[0]) / self.scale
        y = (pixels - self.centre[1]) / self.scale
        shape = (len(pixels), len(pixels))
        return np.broadcast_to(x[None, :], shape).copy(), np.broadcast_to(y[:, None], shape).copy()

    def project(self, points: Array, pose: HeadPose) -> Array:
        """Head points [N, 3] in mm to pixels [N, 2]; pixel centres lie at half-integers."""
        turned = (points - PIVOT) @ pose.rotation().T.astype(np.float32) + PIVOT
        plane = turned[:, :2] + np.array([pose.shift_x, pose.shift_y], np.float32)
        return (plane * self.scale + np.array(self.centre, np.float32)).astype(np.float32)


def camera_of(size: int, eye_distance_mm: float, zoom: float) -> Camera:
    """The camera of a square frame in which this person's eyes are 38 to 42 pixels apart at size 144."""
    return Camera(size, EYE_DISTANCE * size * zoom / eye_distance_mm, (0.5 * size, EYE_LINE * size))


def photograph(frame: NDArray[np.uint8], softness: float, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The frame, uint8 [h, w, 3], as seen through a lens out of focus by `softness` (Gaussian sigma, as a share of the
    frame's width) by a sensor with `noise` (standard deviation, of 255); with both 0 it is unchanged."""
    if softness > 0.0:
        frame = cv2.GaussianBlur(frame, (0, 0), softness * frame.shape[1])
    if noise > 0.0:
        grain = rng.standard_normal(frame.shape, np.float32) * np.float32(noise)
        frame = np.clip(frame + grain + 0.5, 0.0, 255.0).astype(np.uint8)
    return frame
