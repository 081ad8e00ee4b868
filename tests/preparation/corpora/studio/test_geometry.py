"""The truth beside the pictures: landmarks and opening come from the drawn geometry and agree with each other."""

from __future__ import annotations

import numpy as np
import pytest

from preparation.corpora.studio.clip import Speaker, film, invite
from preparation.corpora.studio.head.camera import HeadPose
from preparation.corpora.studio.head.eyes import EyePose
from preparation.corpora.studio.head.mouth import MouthPose
from preparation.corpora.studio.landmarks import measure
from preparation.corpora.studio.motion import FacePose
from preparation.corpora.studio.renderer import render
from preparation.corpora.studio.settings import StudioSettings

SETTINGS = StudioSettings()
STRAIGHT = HeadPose(0.0, 0.0, 0.0, 0.0, 0.0)
OPEN_EYES = EyePose(0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def client() -> Speaker:
    return invite("client", 2, SETTINGS)


def _mouth(gap: float, spread: float = 0.0, smile: float = 0.0) -> MouthPose:
    return MouthPose(gap, spread, 1.0 if gap == 0.0 else 0.0, smile, 0.0)


def test_inner_lips_match_the_opening_in_any_pose(client: Speaker) -> None:
    clip = film(client, 0, SETTINGS)
    truth = clip.truth()
    points = truth["landmarks"]
    gap = np.linalg.norm(points[:, 66] - points[:, 62], axis=1)
    eyes = np.linalg.norm(points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1), axis=1)
    np.testing.assert_allclose(gap / eyes, truth["mouth_opening"], atol=0.012)
    assert truth["mouth_opening"].max() > 0.12
    assert truth["mouth_opening"].min() < 0.005


def test_opening_is_the_gap_asked_for(client: Speaker) -> None:
    for gap in (0.0, 4.0, 11.0, 18.0):
        _, opening = measure(client.sculpture, FacePose(STRAIGHT, OPEN_EYES, _mouth(gap), 0.0))
        assert opening * client.identity.eye_distance == pytest.approx(gap, abs=0.25)


def test_landmarks_lie_as_on_a_face(client: Speaker) -> None:
    points, _ = measure(client.sculpture, FacePose(STRAIGHT, OPEN_EYES, _mouth(10.0, smile=0.3), 0.0))
    assert points.shape == (68, 2) and points.dtype == np.float32
    assert (points >= 0.0).all() and (points <= SETTINGS.size).all()
    assert (np.diff(points[:17, 0]) > 0).all(), "the jaw runs from left to right"
    assert np.argmax(points[:17, 1]) == 8, "the chin is its lowest point"
    assert (np.diff(points[17:27, 0]) > 0).all()
    assert points[17:27, 1].max() < points[36:48, 1].min(), "brows above eyes"
    assert (np.diff(points[27:31, 1]) > 0).all(), "down the nose"
    for first, sign in ((36, 1), (42, 1)):
        eye = points[first : first + 6]
        assert sign * (eye[3, 0] - eye[0, 0]) > 0
        assert eye[1:3, 1].max() < eye[4:6, 1].min(), "upper lid above lower lid"
    mouth = points[48:68]
    assert mouth[0, 0] < mouth[12, 0] < mouth[16, 0] < mouth[6, 0], "inner corners between the outer ones"
    for outer_up, inner_up, inner_down, outer_down in ((3, 14, 18, 9), (2, 13, 19, 10), (4, 15, 17, 8)):
        column = mouth[[outer_up, inner_up, inner_down, outer_down], 1]
        assert (np.diff(column) > 0).all()
    eyes = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
    assert 38.0 <= np.linalg.norm(eyes) <= 42.5


def test_the_aligned_crop_stays_inside_the_frame() -> None:
    """Eye centres at 0.40 of the height and 0.32 apart: the crop of 128 pixels fits into every frame."""
    for number in range(3):
        clip = film(invite("public", number, SETTINGS), 0, SETTINGS)
        points = clip.truth()["landmarks"]
        left, right = points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)
        side = np.linalg.norm(right - left, axis=1) / 0.32
        middle = 0.5 * (left + right)
        assert (middle[:, 0] - 0.5 * side >= -2).all() and (middle[:, 0] + 0.5 * side <= SETTINGS.size + 2).all()
        assert (middle[:, 1] - 0.4 * side >= -2).all() and (middle[:, 1] + 0.6 * side <= SETTINGS.size + 2).all()


def test_closing_lids_follow_the_blink(client: Speaker) -> None:
    def opening(blink: float) -> float:
        pose = FacePose(STRAIGHT, EyePose(blink, 0.0, 0.0, 0.0), _mouth(0.0), 0.0)
        points, _ = measure(client.sculpture, pose)
        return float(points[40:42, 1].mean() - points[37:39, 1].mean())

    assert opening(0.0) > opening(0.5) > opening(1.0)
    assert opening(1.0) < 0.2 * opening(0.0)


def test_lip_contour_is_where_the_lips_are_drawn(client: Speaker) -> None:
    """Inside the inner contour the cavity is drawn, and it is darker or whiter, never lip-coloured."""
    pose = FacePose(STRAIGHT, OPEN_EYES, _mouth(16.0), 0.0)
    points, _ = measure(client.sculpture, pose)
    shut = render(client.sculpture, FacePose(STRAIGHT, OPEN_EYES, _mouth(0.0), 0.0)).astype(float)
    wide = render(client.sculpture, pose).astype(float)
    x = round(float(points[62, 0]) - 0.5)
    top, bottom = points[62, 1], points[66, 1]
    change = np.abs(wide - shut).mean(axis=2)[:, x]
    inside = change[int(np.ceil(top)) : int(bottom)]
    assert inside.mean() > 25.0
    redness = (wide[..., 0] - 0.5 * (wide[..., 1] + wide[..., 2]))[:, x]
    upper_lip = redness[int(points[51, 1]) + 1 : int(top)].max()
    lower_lip = redness[int(bottom) + 1 : int(points[57, 1])].max()
    teeth = redness[int(np.ceil(top)) + 1]
    assert teeth < 0.6 * min(upper_lip, lower_lip)
    assert change[: int(points[33, 1]) - 8].mean() < 1.0, "nothing above the nose moves with the mouth"
