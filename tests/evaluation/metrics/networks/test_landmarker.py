"""The tracker's rate, on a real clip where the model's file is present."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from common.weights import registry as weights
from evaluation.metrics.networks.landmarker import open_track, track_each
from preparation.media.video import open_video


def test_a_frame_counts_with_exactly_one_face() -> None:
    face = np.ones((68, 2), np.float32)
    answers = iter([[face], [], [face, face]])
    landmarks, found = track_each(lambda frame: next(answers), np.zeros((3, 8, 8, 3), np.uint8))
    assert found == [True, False, False]
    # A border of a quarter of the frame was seen and is taken off again.
    np.testing.assert_array_equal(landmarks[0], face - 2)
    assert np.isnan(landmarks[1:]).all()


def test_without_the_model_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "find_optional", lambda name: None)
    with open_track() as (track, reason):
        assert track is None and "absent" in reason


def test_real_frames_have_a_face_and_noise_has_none(
    weights_dir: Path, clips_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    clip = next(iter(sorted(clips_dir.glob("grid/*.mpg"))))
    real = np.stack(list(islice(open_video(clip).frames(), 4)))
    noise = np.random.default_rng(0).integers(0, 255, real.shape, dtype=np.uint8)
    with open_track() as (track, _):
        assert track is not None
        assert track(real)[1] == [True] * 4
        assert not any(track(noise)[1])
