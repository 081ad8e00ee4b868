"""Face embeddings: a frozen network, trained with ArcFace, on faces aligned by five points.

An embedding is a biometric: it is held in memory to be compared and never written to a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.weights import registry as weights
from preparation.faces.alignment import fit_similarity, warp
from preparation.faces.landmarks import Landmarks, eye_centres, pose_proxy
from preparation.settings import EmbedderName

if TYPE_CHECKING:  # training imports this module and needs no video decoder
    from preparation.media.track.frames import Frame

Embedding = NDArray[np.float32]
"""float32 [..., D], of length one: the dot product of two is the cosine between the faces; D is 128 or 512."""

SIZE = 112


@dataclass(frozen=True)
class EmbedderKind:
    """An embedder: its usual name, its registered file, and the mean and deviation of pixels in [0, 1], by channel."""

    label: str
    weight: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


KINDS: dict[EmbedderName, EmbedderKind] = {
    # torchvision's ImageNet constants, as in the network's training
    "mobilefacenet": EmbedderKind("MobileFaceNet", "mobilefacenet_onnx", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # InsightFace's ResNet-50 of buffalo_l, which takes pixels in [-1, 1]
    "arcface_r50": EmbedderKind("InsightFace R50", "arcface_r50", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Choose `mobilefacenet` to check identities (small, permissive licence); `arcface_r50` to compare figures with other
papers, whose identity similarity is usually InsightFace's."""

WEIGHT = KINDS["mobilefacenet"].weight

ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eye centres, nose tip and mouth corners, left to right in the picture, in a 112-pixel face (Deng et al. 2019)."""

NOSE_TIP, MOUTH_CORNERS = 30, (48, 54)


class FaceEmbedder:
    """One of `KINDS`, run by onnxruntime on one CPU thread, so that worker processes do not compete for cores."""

    def __init__(self, name: EmbedderName = "mobilefacenet") -> None:
        # onnxruntime takes its time to import, and only the identity check needs it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(weights.find(KINDS[name].weight)), options, providers=["CPUExecutionProvider"]
        )
        self._input, self._kind = self._session.get_inputs()[0].name, KINDS[name]

    def embed_faces(self, faces: Iterable[Frame]) -> Embedding:
        """Embeddings [N, D] of aligned faces, uint8 [112, 112, 3] each, RGB."""
        rows = [self._session.run(None, {self._input: network_input(face, self._kind)})[0][0] for face in faces]
        return unit(np.stack(rows))

    def embed_person(self, faces: Iterable[Frame]) -> Embedding:
        """One embedding [D] of several faces of one person: their mean, scaled to length one."""
        return unit(self.embed_faces(faces).mean(0))


def align_five_points(frame: Frame, landmarks: Landmarks) -> Frame:
    """The face as the embedder saw it in training, uint8 [112, 112, 3], from a frame with landmarks [68, 2]."""
    transform = fit_similarity(five_points(landmarks)[None], ARCFACE_TEMPLATE, np.ones(5))
    return warp(frame, transform[0], SIZE)


def five_points(landmarks: Landmarks) -> Landmarks:
    """Eye centres, nose tip and mouth corners of iBUG-68 landmarks [..., 68, 2]: float32 [..., 5, 2]."""
    right, left = eye_centres(landmarks)
    others = [landmarks[..., index, :] for index in (NOSE_TIP, *MOUTH_CORNERS)]
    return np.stack([right, left, *others], axis=-2)


def frontal_frames(landmarks: Landmarks, count: int) -> list[int]:
    """The most frontal frame of each of `count` equal stretches of a clip [T, 68, 2].

    A face in profile embeds badly: two frames of one person fall from a mean cosine of 0.85 to below zero.
    """
    turned = np.abs(pose_proxy(landmarks)[:, 0])
    stretches = np.array_split(np.arange(len(landmarks)), min(count, len(landmarks)))
    return [int(stretch[np.argmin(turned[stretch])]) for stretch in stretches]


def network_input(face: Frame, kind: EmbedderKind) -> NDArray[np.float32]:
    """float32 [1, 3, 112, 112], normalised as in the network's training, of a face uint8 [112, 112, 3], RGB."""
    scaled = (face.astype(np.float32) / 255 - np.array(kind.mean, np.float32)) / np.array(kind.deviation, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def unit(vectors: NDArray[np.floating]) -> Embedding:
    """Vectors [..., D] scaled to length one."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)).astype(np.float32)
