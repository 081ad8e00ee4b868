"""Whether the generated face is still the same person: cosine of embeddings to the reference.

The embedder is an argument, so that a pretrained face network can replace the identity ruler without a change here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.weights import registry as weights
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.interface import Embedder, Figures, Networks
from preparation.faces.landmarks import Landmarks
from preparation.settings import EmbedderName

METRICS: dict[EmbedderName, str] = {"mobilefacenet": "face_identity", "arcface_r50": "arcface_identity"}
"""Embedder -> the key of its metric."""


class PretrainedFaces:
    """A pretrained embedder of the preparation floor, which aligns faces by their landmarks.

    MobileFaceNet: LFW 99.5 %; cosine 0.96 between two clips of one person, 0.03 between people.
    """

    def __init__(self, name: EmbedderName) -> None:
        from preparation.faces.embedder import FaceEmbedder

        self._network, self.metric = FaceEmbedder(name), METRICS[name]

    def embed_aligned(self, frames: Frames, landmarks: Landmarks) -> Floats:
        from preparation.faces.embedder import align_five_points

        return self._network.embed_faces(
            align_five_points(frame, points) for frame, points in zip(frames, landmarks, strict=True)
        )


def open_embedder(name: EmbedderName = "mobilefacenet") -> PretrainedFaces | None:
    """The embedder, or None where its file is absent: its metric is then missing and no other network replaces it."""
    from preparation.faces.embedder import KINDS

    return PretrainedFaces(name) if weights.find_optional(KINDS[name].weight) is not None else None


def identity_similarity(embedder: Embedder, frames: Frames, reference: Frames) -> npt.NDArray[np.float64]:
    """Cosine of each frame [T, H, W, 3] to `reference` [H, W, 3]: float64 [T]."""
    return cosine_to(embedder.embed(frames), embedder.embed(reference[None])[0])


def cosine_to(embeddings: Floats, reference: Floats) -> npt.NDArray[np.float64]:
    """Cosine of embeddings [T, D] to one [D]."""
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(reference)
    return (embeddings.astype(np.float64) @ reference.astype(np.float64)) / np.maximum(lengths, 1e-12)


def identity_drift(similarity: npt.NDArray[np.float64]) -> float:
    """Similarity of a clip's last quarter minus that of its first: negative where the face drifts away."""
    quarter = max(1, len(similarity) // 4)
    return float(similarity[-quarter:].mean() - similarity[:quarter].mean())


def measure(clip: EvaluationClip, frames: Frames, networks: Networks) -> Figures:
    """Identity and its drift by the run's identity ruler."""
    similarity = identity_similarity(networks.identity, frames, clip.reference)
    return {"identity": float(similarity.mean()), "identity_drift": identity_drift(similarity)}
