"""Laws of the motion metrics: a still has none, independent noise flickers by √3, speed scales."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from evaluation.metrics.motion import (
    flicker_ratio,
    flow_error,
    landmark_jitter,
    landmark_jitter_ratio,
    mean_frame_delta,
)


def test_a_still_does_not_move() -> None:
    still = np.full((5, 8, 8, 3), 100, np.uint8)
    assert mean_frame_delta(still) == 0
    assert np.isnan(flicker_ratio(still))


def test_a_ramp_moves_by_its_slope_and_never_flickers() -> None:
    ramp = np.broadcast_to(np.arange(0, 100, 10, dtype=np.uint8)[:, None, None, None], (10, 4, 4, 3))
    assert mean_frame_delta(ramp) == pytest.approx(10 / 255, rel=1e-5)
    assert flicker_ratio(ramp) == pytest.approx(0, abs=1e-5)


def test_independent_noise_has_flicker_sqrt_3() -> None:
    noise = np.random.default_rng(0).normal(128, 10, (40, 32, 32, 3)).astype(np.uint8)
    assert flicker_ratio(noise) == pytest.approx(3**0.5, abs=0.02)


def test_landmark_jitter_ignores_steady_motion() -> None:
    time = np.arange(20, dtype=np.float32)[:, None, None]
    steady = np.broadcast_to(time * 2, (20, 68, 2)).astype(np.float32)
    assert landmark_jitter(steady) == pytest.approx(0, abs=1e-5)
    bow = (time**2).repeat(68, axis=1).repeat(2, axis=2)
    assert landmark_jitter(bow) == pytest.approx(2 * 2**0.5, rel=1e-5)  # acceleration 2 in x and in y
    assert landmark_jitter_ratio(3 * bow, bow) == pytest.approx(3, rel=1e-5)
    assert np.isnan(landmark_jitter_ratio(bow, steady * 0))


def test_too_short_clips_are_undefined() -> None:
    one = np.zeros((1, 4, 4, 3), np.uint8)
    assert np.isnan(mean_frame_delta(one)) and np.isnan(flicker_ratio(one))
    assert np.isnan(landmark_jitter(np.zeros((2, 68, 2), np.float32)))


def test_flow_error_is_the_motion_that_is_missing() -> None:
    """A texture that moves two pixels a frame: its still misses two pixels, itself nothing, its mirror four."""
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 256, (12, 24)), np.ones((8, 8))).astype(np.float32)
    texture = cv2.GaussianBlur(wide, (0, 0), 3).astype(np.uint8)[..., None].repeat(3, axis=-1)
    moving = np.stack([texture[:, 40 - 2 * t : 136 - 2 * t] for t in range(6)])
    still, back = moving[:1].repeat(6, axis=0), moving[::-1]
    assert flow_error(moving, moving) == 0
    assert flow_error(still, moving) == pytest.approx(2, abs=0.15)
    assert flow_error(np.ascontiguousarray(back), moving) == pytest.approx(4, abs=0.4)
    assert np.isnan(flow_error(still[:1], moving[:1]))
