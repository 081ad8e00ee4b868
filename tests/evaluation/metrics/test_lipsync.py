from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from evaluation.metrics.lipsync import lip_correlation, lip_landmark_distance, opening_error

RNG = np.random.default_rng(0)


def test_correlation_is_pearsons() -> None:
    true = RNG.uniform(0, 0.4, 50).astype(np.float32)
    measured = (0.5 * true + RNG.normal(0, 0.05, 50)).astype(np.float32)
    assert lip_correlation(measured, true) == pytest.approx(pearsonr(measured, true).statistic, abs=1e-6)
    assert lip_correlation(3 * true + 1, true) == pytest.approx(1)


def test_still_mouths_follow_nothing() -> None:
    true = RNG.uniform(0, 0.4, 50).astype(np.float32)
    still = np.full(50, 0.2, np.float32)
    assert lip_correlation(still, true) == 0
    assert np.isnan(lip_correlation(true, still))


def test_opening_error_is_the_mean_distance() -> None:
    true = np.array([0.0, 0.1, 0.4], np.float32)
    assert opening_error(true + np.float32(0.05), true) == pytest.approx(0.05, rel=1e-5)


def test_lmd_ignores_where_the_mouth_is_and_sees_its_shape() -> None:
    truth = RNG.normal(50, 10, (6, 68, 2)).astype(np.float32)
    truth[:, [36, 39]], truth[:, [42, 45]] = (30, 40), (70, 40)  # 40 pixels between the eyes
    assert lip_landmark_distance(truth + 7, truth) == pytest.approx(0, abs=1e-6)
    wider = truth.copy()
    offset = np.where(np.arange(20) % 2, 4, -4).astype(np.float32)
    wider[:, 48:68, 1] += offset  # every lip point 4 pixels off, their mean unmoved
    assert lip_landmark_distance(wider, truth) == pytest.approx(4 / 40, rel=1e-4)
