from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from preparation.crops.quality import Quality, face_pixels, judge, loudness, median_roll, sharpness, sound_share
from preparation.settings import QualitySettings
from tests.preparation.conftest import MakeFace

GOOD = Quality(frames=50, face_rate=1.0, face_pixels=80, roll_degrees=3, loudness=0.05, sharpness=100)


def test_a_good_clip_passes() -> None:
    assert judge(GOOD, QualitySettings(), has_audio=True) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frames": 0}, "no face found"),
        ({"face_rate": 0.3}, "a face in only 30%"),
        ({"frames": 7}, "only 7 frames in a row"),
        ({"face_pixels": 20}, "20 pixels high"),
        ({"roll_degrees": 50}, "tilted by 50 degrees"),
        ({"loudness": 0.0}, "silent"),
        ({"sound_share": 0.4}, "only 40% of the picture"),
        ({"sharpness": 1.0}, "blurred"),
    ],
)
def test_each_filter_has_its_name(change: dict[str, Any], reason: str) -> None:
    verdict = judge(replace(GOOD, **change), QualitySettings(), has_audio=True)
    assert verdict is not None and reason in verdict.reason and verdict.remedy


def test_sound_may_be_waived() -> None:
    verdict = judge(GOOD, QualitySettings(), has_audio=False)
    assert verdict is not None and verdict.reason == "no sound"
    assert judge(replace(GOOD, loudness=0.0), QualitySettings(require_audio=False), has_audio=False) is None


def test_loudness_is_the_root_mean_square() -> None:
    sine = (16384 * np.sin(np.arange(16000) * 2 * np.pi * 100 / 16000)).astype(np.int16)
    assert loudness(sine) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    assert loudness(np.zeros(0, dtype=np.int16)) == 0


def test_sound_lasts_from_its_first_to_its_last_sample() -> None:
    sound = np.zeros(1000, dtype=np.int16)
    assert sound_share(sound) == sound_share(sound[:0]) == 0
    sound[[200, 450, 699]] = 5
    assert sound_share(sound) == 0.5
    waived = QualitySettings(require_audio=False)
    assert judge(replace(GOOD, sound_share=0.1), waived, has_audio=True) is None


def test_blur_lowers_sharpness_at_any_size() -> None:
    rng = np.random.default_rng(0)
    crop = cv2.resize(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (256, 256))
    assert sharpness(cv2.GaussianBlur(crop, (0, 0), 6)) < 0.1 * sharpness(crop)


def test_face_size_and_roll_of_a_known_face(make_face: MakeFace) -> None:
    assert face_pixels(make_face(5, unit=20.0)) == pytest.approx(20 * (1.8 + 0.35), rel=0.02)
    assert median_roll(make_face(5)) == pytest.approx(0, abs=1e-4)
