from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.identity import cosine_to, identity_drift, identity_similarity


class MeanColour:
    """A face network for the test: the embedding is the mean colour."""

    def embed(self, frames: np.ndarray) -> np.ndarray:
        colour = frames.mean(axis=(1, 2)).astype(np.float32)
        return colour / np.linalg.norm(colour, axis=1, keepdims=True)


def test_similarity_is_the_cosine_to_the_reference() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[0] = (200, 0, 0)
    frames[1] = (0, 100, 0)
    similarity = identity_similarity(MeanColour(), frames, frames[0] // 2)
    np.testing.assert_allclose(similarity, [1, 0], atol=1e-6)


def test_cosine_needs_no_unit_vectors() -> None:
    rows, other = np.array([[3, 3], [-2, 0]], np.float32), np.array([5, 0], np.float32)
    np.testing.assert_allclose(cosine_to(rows, other), [0.5**0.5, -1])


def test_drift_is_the_end_minus_the_start() -> None:
    assert identity_drift(np.linspace(1, 0, 8)) == pytest.approx(-6 / 7)
