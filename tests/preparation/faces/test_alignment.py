from __future__ import annotations

import numpy as np
import pytest

from preparation.faces.alignment import align, fit_similarity, fit_transforms, template, transform_points, warp
from preparation.faces.landmarks import STABLE, STABLE_WEIGHTS
from preparation.settings import CropSettings
from tests.preparation.conftest import MakeFace

SETTINGS = CropSettings()


def test_template_is_where_the_settings_say() -> None:
    points = template(SETTINGS) / 128
    right, left = points[:2].mean(0), points[2:4].mean(0)
    np.testing.assert_allclose(right, [0.34, 0.403], atol=0.005)
    np.testing.assert_allclose(left - right, [0.32, 0], atol=1e-9)


def test_fit_is_the_weighted_least_squares_solution() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(1, 9, 2)), rng.normal(size=(9, 2))
    (fitted,) = fit_similarity(source, target, STABLE_WEIGHTS)
    # The same problem, linear in (a, b, tx, ty), by numpy.
    rows, values = [], []
    for (x, y), (u, v), weight in zip(source[0], target, STABLE_WEIGHTS, strict=True):
        root = np.sqrt(weight)
        rows += [[root * x, -root * y, root, 0], [root * y, root * x, 0, root]]
        values += [root * u, root * v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    np.testing.assert_allclose(fitted, [[a, -b, tx], [b, a, ty]], atol=1e-9)


def test_known_motion_is_undone() -> None:
    rng = np.random.default_rng(2)
    landmarks = rng.normal(size=(40, 68, 2)).astype(np.float32)
    for frame in range(40):
        angle, scale = 0.3 * np.sin(frame / 9), 2.0 + 0.2 * np.sin(frame / 13)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        landmarks[frame, STABLE] = template(SETTINGS) @ turn.T + [100 + frame, 50]
    exact = SETTINGS.model_copy(update={"smoothing_position": 0, "smoothing_scale": 0})
    moved = transform_points(landmarks, fit_transforms(landmarks, exact))
    np.testing.assert_allclose(moved[:, STABLE], np.broadcast_to(template(SETTINGS), (40, 9, 2)), atol=1e-3)
    # Smoothed in time, slow motion is followed to within a pixel.
    smoothed = transform_points(landmarks, fit_transforms(landmarks, SETTINGS))
    assert np.abs(smoothed - moved)[5:-5, STABLE].max() < 1.5


def test_smoothing_takes_out_tremble(make_face: MakeFace) -> None:
    still = np.repeat(make_face(1, unit=60.0), 50, axis=0)
    trembling = still + np.random.default_rng(0).normal(0, 1.0, still.shape).astype(np.float32)

    def shake(settings: CropSettings) -> float:
        crop = transform_points(still, fit_transforms(trembling, settings))
        return float(np.abs(np.diff(crop[:, STABLE], axis=0)).mean())

    raw = SETTINGS.model_copy(update={"smoothing_position": 0, "smoothing_scale": 0})
    assert shake(SETTINGS) < 0.2 * shake(raw)


def test_a_roll_past_half_a_turn_is_no_jump(make_face: MakeFace) -> None:
    base = make_face(1)[0] - [40, 30]
    angles = np.linspace(np.pi - 0.3, np.pi + 0.3, 21)
    turns = np.stack([np.stack([np.cos(angles), -np.sin(angles)], 1), np.stack([np.sin(angles), np.cos(angles)], 1)], 1)
    landmarks = np.einsum("tij,kj->tki", turns, base).astype(np.float32)
    crop = transform_points(landmarks, fit_transforms(landmarks, SETTINGS))
    assert np.abs(crop[5:-5] - crop[10]).max() < 2


@pytest.mark.parametrize("scale", [0.2, 0.45, 1.0, 2.5])
def test_picture_and_landmarks_move_together(scale: float) -> None:
    """A disc drawn at a landmark is found at the moved landmark, at every scale."""
    size, centre = int(64 / scale) + 200, np.array([0.5 * 64 / scale + 60, 0.5 * 64 / scale + 70])
    y, x = np.mgrid[:size, :size]
    radius = max(2.0, 5 / scale)
    disc = 255 * np.clip(radius + 0.5 - np.hypot(x - centre[0], y - centre[1]), 0, 1)
    frame = np.repeat(disc[..., None], 3, axis=2).astype(np.uint8)
    transform = np.array([[scale, 0, 32 - scale * centre[0]], [0, scale, 32 - scale * centre[1]]])
    crop = warp(frame, transform, 64).astype(float)[..., 0]
    yy, xx = np.mgrid[:64, :64]
    found = np.array([(crop * xx).sum(), (crop * yy).sum()]) / crop.sum()
    np.testing.assert_allclose(found, [32, 32], atol=0.15)


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    crop = warp(stripes, np.array([[0.125, 0, 0], [0, 0.125, 0]]), 64)
    assert abs(float(crop.mean()) - 127.5) < 2 and float(crop[:, 1:-1].std()) < 3


def test_single_frame_alignment(make_face: MakeFace) -> None:
    frame = np.zeros((64, 80, 3), dtype=np.uint8)
    crop, points = align(frame, make_face(1)[0])
    assert crop.shape == (128, 128, 3)
    np.testing.assert_allclose(points[STABLE], template(SETTINGS), atol=1e-3)
