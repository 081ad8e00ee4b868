from __future__ import annotations

import numpy as np
import pytest

from preparation.faces.alignment import align, template
from preparation.faces.landmarks import (
    MEDIAPIPE_TO_IBUG,
    MOUTH,
    STABLE,
    eye_boxes,
    eye_openness,
    interocular,
    mouth_box,
    mouth_opening,
    pose_proxy,
    roll_degrees,
    template_eye_boxes,
    template_mouth_box,
)
from preparation.settings import CropSettings
from tests.preparation.conftest import MakeFace


def test_mapping_has_68_different_vertices() -> None:
    assert len(MEDIAPIPE_TO_IBUG) == len(set(MEDIAPIPE_TO_IBUG.tolist())) == 68
    assert MEDIAPIPE_TO_IBUG.min() >= 0 and MEDIAPIPE_TO_IBUG.max() < 468


def test_no_mouth_or_jaw_point_steers_the_alignment() -> None:
    assert STABLE.min() >= 27 and STABLE.max() < 48


def test_measures_on_a_known_face(make_face: MakeFace) -> None:
    points = make_face(3)
    np.testing.assert_allclose(interocular(points), 20, rtol=1e-5)
    np.testing.assert_allclose(roll_degrees(points), 0, atol=1e-4)
    # The inner lips of the synthetic face are an ellipse of half-height 0.08 inter-ocular distances.
    np.testing.assert_allclose(mouth_opening(points), 0.16, atol=0.01)
    assert (eye_openness(points) > 0.25).all()


@pytest.mark.parametrize("degrees", [-20.0, 35.0])
def test_measures_do_not_depend_on_scale_and_roll(make_face: MakeFace, degrees: float) -> None:
    points = make_face(2)
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (2.5 * points.astype(np.float64) @ turn.T + [7, -3]).astype(np.float32)
    np.testing.assert_allclose(roll_degrees(moved), degrees, atol=1e-3)
    for measure in (mouth_opening, eye_openness, pose_proxy):
        np.testing.assert_allclose(measure(moved), measure(points), atol=1e-4)


def test_boxes_hold_their_points_and_stay_inside(make_face: MakeFace) -> None:
    _, points = align(np.zeros((64, 80, 3), dtype=np.uint8), make_face(1)[0])
    x0, y0, x1, y1 = mouth_box(points, 128)
    assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
    inside = (points[MOUTH] >= [x0, y0]) & (points[MOUTH] <= [x1, y1])
    assert inside.all()
    right, left = eye_boxes(points, 128)
    assert right[2] <= left[0]
    assert mouth_box(points + 1000, 128) == (127, 127, 128, 128)


def test_box_of_a_clip_covers_every_frame(make_face: MakeFace) -> None:
    points = make_face(5) + 40
    whole = mouth_box(points, 128)
    for frame in points:
        x0, y0, x1, y1 = mouth_box(frame, 128)
        assert whole[0] <= x0 and whole[1] <= y0 and whole[2] >= x1 and whole[3] >= y1


@pytest.mark.parametrize("size", [64, 128, 256])
def test_template_boxes_follow_the_template(make_face: MakeFace, size: int) -> None:
    settings = CropSettings(size=size)
    _, points = align(np.zeros((64, 80, 3), dtype=np.uint8), make_face(1)[0], settings)
    x0, y0, x1, y1 = template_mouth_box(size, settings)
    assert ((points[MOUTH] >= [x0, y0]) & (points[MOUTH] <= [x1, y1])).all()
    eyes = template(settings)[:4]
    for corners, (left, top, right, bottom) in zip(
        (eyes[:2], eyes[2:]), template_eye_boxes(size, settings), strict=True
    ):
        assert ((corners >= [left, top]) & (corners <= [right, bottom])).all()
