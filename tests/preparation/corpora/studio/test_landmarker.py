"""MediaPipe's face landmarker, trained on real people, sees one face in the studio's, and the same open lips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import mediapipe
import numpy as np
import pytest
from mediapipe.tasks.python import BaseOptions, vision
from numpy.typing import NDArray

from preparation.corpora.studio.clip import film, invite
from preparation.corpora.studio.renderer import render
from preparation.corpora.studio.settings import StudioSettings

SETTINGS = StudioSettings()
PEOPLE = [("public", n) for n in (0, 4, 10, 13, 25)] + [("client", n) for n in (0, 3)] + [("unseen", 1)]
EVERY = 4


@pytest.fixture(scope="module")
def landmarker(weights_dir: Path) -> Iterator[vision.FaceLandmarker]:
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(weights_dir / "face_landmarker.task")), num_faces=2
    )
    with vision.FaceLandmarker.create_from_options(options) as found:
        yield found


def _faces(landmarker: vision.FaceLandmarker, frame: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
    found = landmarker.detect(image).face_landmarks
    return [np.array([(point.x, point.y) for point in face]) for face in found]


def _aligned(frame: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The 128-pixel crop of the preparation, from the true eyes."""
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    along = (right - left) / np.linalg.norm(right - left)
    scale = 0.32 * 128 / np.linalg.norm(right - left)
    turn = scale * np.array([[along[0], along[1]], [-along[1], along[0]]])
    shift = np.array([0.34 * 128, 0.40 * 128]) - turn @ left
    return cv2.warpAffine(frame, np.column_stack([turn, shift]), (128, 128), borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.slow(minutes=0.2)
def test_one_face_in_frame_and_crop_with_the_true_opening(landmarker: vision.FaceLandmarker) -> None:
    clips_found, crops_found, correlations = [], [], []
    for kind, number in PEOPLE:
        clip = film(invite(kind, number, SETTINGS), 0, SETTINGS)
        truth = clip.truth()
        seen, seen_in_crop, apertures, openings = [], [], [], []
        for index in range(0, len(clip.performance.poses), EVERY):
            frame = render(clip.speaker.sculpture, clip.performance.poses[index])
            faces = _faces(landmarker, frame)
            seen.append(len(faces) == 1)
            seen_in_crop.append(len(_faces(landmarker, _aligned(frame, truth["landmarks"][index]))) == 1)
            if faces:
                apertures.append(np.linalg.norm(faces[0][13] - faces[0][14]))
                openings.append(truth["mouth_opening"][index])
        clips_found.append(np.mean(seen))
        crops_found.append(np.mean(seen_in_crop))
        correlations.append(np.corrcoef(apertures, openings)[0, 1])
    assert np.mean(np.array(clips_found) >= 0.95) >= 0.95
    assert np.mean(crops_found) >= 0.95
    assert np.mean(correlations) >= 0.85
