"""Pretrained face networks by name: what each is shown, and that one never stands in for another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from common.errors import CorruptFileError, MissingWeightError
from common.weights import registry as weights
from evaluation.metrics.identity import METRICS, open_embedder
from preparation.faces.embedder import KINDS, SIZE, FaceEmbedder, network_input
from preparation.settings import EmbedderName


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def test_insightfaces_network_is_shown_pixels_from_minus_one_to_one(faces: np.ndarray) -> None:
    """As InsightFace does it: (x - 127.5) / 127.5, planes in the order red, green, blue."""
    shown = network_input(faces[0], KINDS["arcface_r50"])
    assert shown.shape == (1, 3, SIZE, SIZE) and shown.dtype == np.float32
    np.testing.assert_allclose(shown[0, 2], (faces[0, :, :, 2].astype(np.float64) - 127.5) / 127.5, atol=1e-6)
    ends = network_input(np.stack([np.zeros_like(faces[0]), np.full_like(faces[0], 255)])[1], KINDS["arcface_r50"])
    assert ends.max() == 1.0


def test_every_name_has_a_registered_network_and_a_metric_of_its_own() -> None:
    names = get_args(EmbedderName)
    assert set(KINDS) == set(METRICS) == set(names)
    assert len(set(METRICS.values())) == len(names)
    assert all(weights.REGISTRY[kind.weight].sha256 for kind in KINDS.values())


def test_a_network_that_is_absent_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_embedder("arcface_r50") is None
    with pytest.raises(MissingWeightError, match="w600k_r50"):
        FaceEmbedder("arcface_r50")
    (tmp_path / "w600k_r50.onnx").write_bytes(b"something else")
    with pytest.raises(CorruptFileError, match="is not ArcFace"):
        open_embedder("arcface_r50")


def test_the_path_of_another_network_through_the_runtime(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch, faces: np.ndarray
) -> None:
    """The registered file of `arcface_r50` is not at hand: MobileFaceNet's takes its place in the registry, so that
    session, normalisation and metric's name are those of the larger network's path."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    small = weights.REGISTRY[KINDS["mobilefacenet"].weight]
    stand_in = replace(weights.REGISTRY["arcface_r50"], file=small.file, sha256=small.sha256, bytes=small.bytes)
    monkeypatch.setitem(weights.REGISTRY, "arcface_r50", stand_in)
    embedder = open_embedder("arcface_r50")
    assert embedder is not None and embedder.metric == "arcface_identity"
    found = FaceEmbedder("arcface_r50").embed_faces(list(faces))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    as_trained = FaceEmbedder("mobilefacenet").embed_faces(list(faces))
    assert np.abs(found - as_trained).max() > 1e-3  # it was shown other numbers
