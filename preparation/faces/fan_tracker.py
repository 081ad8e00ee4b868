"""face-alignment's networks as a face tracker: BlazeFace finds the faces, 2DFAN-4 the 68 points of each.

Bazarevsky et al., "BlazeFace", 2019; Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D face alignment
problem?", ICCV 2017. The package provides the networks. Its own `FaceAlignment` would download weights, compile, and
round points to whole pixels, so the steps between the networks are written here: windows, cut and decoding, with the
package's framing and with fractions of a pixel.

2DFAN's trained weights were not available when this was written: architecture, loading, framing and decoding are tested
with a network of random weights, and how well the points fit real faces is untested. BlazeFace was run with its
published weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError
from common.weights import registry as weights
from preparation.corpora.clip import Clip
from preparation.faces.follower import follow
from preparation.faces.landmarks import Landmarks
from preparation.faces.track import Seen, Track
from preparation.media.track.frames import Frame, Picture
from preparation.settings import FaceSettings

CROP_SIZE, HEAT_SIZE = 256, 64
DETECTOR_SIZE = 128
SQUARE_PER_BOX = 200 / 195
"""Side of the square that 2DFAN sees, as a multiple of width plus height of the face's box."""
RISE = 0.12
"""How far the square's centre lies above the box's, as a share of the box's height."""
OVERLAP = 0.5
"""Two boxes whose intersection is more than this share of the smaller one are one face, seen in two windows."""

MIRRORED = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *range(27, 31),
        *range(35, 30, -1),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *range(54, 47, -1),
        *range(59, 54, -1),
        *range(64, 59, -1),
        *(67, 66, 65),
    ]
)
"""For each iBUG point, the index of its mirror image."""

Boxes = NDArray[np.float32]
"""float32 [N, 5]: left, top, right, bottom in pixels (0 is the first pixel's left edge), score."""
Square = tuple[float, float, float]
"""Left, top and side in pixels, counted as in boxes."""


class FaceAlignmentTracker:
    """BlazeFace and 2DFAN-4 on single images, on CUDA where there is one.

    Choose it for points annotated as in 300-W, the convention of most work on talking heads, and on a GPU: one core
    takes about 1.2 s for a picture, more than a hundred times MediaPipe's time. A clip's track depends on the clip
    alone, as with MediaPipe.
    """

    name = "face_alignment"
    needs = ("blazeface", "blazeface_anchors", "2dfan4")
    trembles = True

    def __init__(self, settings: FaceSettings) -> None:
        detector, anchors, points = weights.find_all(self.needs)
        # The package imports torch, numba and scikit-image, which take seconds: only this tracker should.
        import torch
        from face_alignment.detection.blazeface import FaceDetector
        from face_alignment.models import FAN

        self._settings = settings
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            network = FAN(4)
            network.load_state_dict(torch.load(points, map_location="cpu", weights_only=True), strict=True)
        except (RuntimeError, KeyError, TypeError) as error:
            raise CorruptFileError(f"{points} does not hold 2DFAN-4: {error}", remedy="replace the file") from error
        self._network: Any = network.eval().requires_grad_(False).to(self._device)
        self._detector: Any = FaceDetector(
            self._device,
            path_to_detector=str(detector),
            path_to_anchor=str(anchors),
            min_score_thresh=settings.minimum_confidence,
        )

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        return follow(frames, self.detect, self._settings, seen)

    def detect(self, frame: Frame) -> list[Landmarks]:
        """All faces of one RGB frame, each float32 [68, 2] in pixels (0 is the first pixel's centre)."""
        return self.align(frame, find_faces(self._detector, frame)[: self._settings.max_faces])

    def align(self, frame: Frame, boxes: Boxes) -> list[Landmarks]:
        """The points of the faces in the boxes [N, 5]: mean of the heat maps of each picture and its mirror image."""
        if len(boxes) == 0:
            return []
        import torch

        squares = [framing(box) for box in boxes]
        cuts = np.stack([cut(frame, square) for square in squares])
        pictures = torch.from_numpy(cuts).to(self._device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            heat = self._network(torch.cat([pictures, pictures.flip(3)]))[-1]
            plain, mirrored = heat.chunk(2)
            heat = (plain + mirrored[:, torch.from_numpy(MIRRORED)].flip(3)).cpu().numpy()
        return [decode(maps, square) for maps, square in zip(heat, squares, strict=True)]

    def close(self) -> None:
        del self._network, self._detector


def find_faces(detector: Any, frame: Frame) -> Boxes:
    """The faces of one RGB frame, by falling score.

    BlazeFace looks at squares. The package takes the middle of a frame that is not square; here windows at most half a
    side apart cover all of it, so that a face up to half as large as the shorter side is whole in one of them.
    """
    height, width = frame.shape[:2]
    side = min(height, width)
    corners = window_corners(height, width)
    views = np.stack(
        [
            cv2.resize(frame[y : y + side, x : x + side], (DETECTOR_SIZE, DETECTOR_SIZE), interpolation=cv2.INTER_AREA)
            for x, y in corners
        ]
    )
    found = [np.zeros((0, 5), dtype=np.float32)]
    for (x, y), boxes in zip(corners, detector.detect_from_batch(views.transpose(0, 3, 1, 2)), strict=True):
        placed = np.array(boxes, dtype=np.float32).reshape(-1, 5)
        placed[:, :4] = placed[:, :4] * (side / DETECTOR_SIZE) + np.array([x, y, x, y], dtype=np.float32)
        found.append(placed)
    return without_doubles(np.concatenate(found))


def window_corners(height: int, width: int) -> list[tuple[int, int]]:
    """Left and top of the square windows that cover a frame, at most half a side apart."""
    side, length = min(height, width), max(height, width)
    count = 1 + int(np.ceil((length - side) / (side / 2)))
    starts = np.linspace(0, length - side, count).astype(int).tolist()
    return [(start, 0) if width > height else (0, start) for start in starts]


def without_doubles(boxes: Boxes) -> Boxes:
    """Boxes [N, 5] by falling score, without those that mostly overlap one of a higher score."""
    kept: list[NDArray[np.float32]] = []
    for box in boxes[np.argsort(-boxes[:, 4], kind="stable")]:
        if all(_overlap(box, other) <= OVERLAP for other in kept):
            kept.append(box)
    return np.stack(kept) if kept else boxes[:0]


def _overlap(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The intersection as a share of the smaller of the two areas."""
    extent = np.minimum(box[2:4], other[2:4]) - np.maximum(box[:2], other[:2])
    smaller = min(np.prod(box[2:4] - box[:2]), np.prod(other[2:4] - other[:2]))
    return float(np.prod(np.maximum(extent, 0)) / max(smaller, 1e-6))


def framing(box: NDArray[np.float32]) -> Square:
    """The square around a box [5] that 2DFAN was trained to see."""
    left, top, right, bottom = (float(edge) for edge in box[:4])
    side = SQUARE_PER_BOX * (right - left + bottom - top)
    return (left + right - side) / 2, (top + bottom - side) / 2 - RISE * (bottom - top), side


def cut(frame: Frame, square: Square) -> Frame:
    """The square as uint8 [256, 256, 3]; beyond the frame it is black, as in the network's training."""
    left, top, side = square
    step = side / CROP_SIZE
    # Pixel i of the cut has its centre at (i + 0.5) steps from the square's edge.
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, matrix, (CROP_SIZE, CROP_SIZE), flags=flags), dtype=np.uint8)


def decode(heat: NDArray[np.float32], square: Square) -> Landmarks:
    """Points [68, 2] in the frame's pixels (0 is the first pixel's centre) from heat maps [68, 64, 64].

    Each is the hottest pixel, moved a quarter pixel towards its hotter neighbour in x and in y (Newell, Yang and Deng
    2016).
    """
    left, top, side = square
    y, x = np.unravel_index(heat.reshape(len(heat), -1).argmax(1), heat.shape[1:])
    place = np.stack([x, y], axis=1) + 0.5
    inside = (x > 0) & (x < HEAT_SIZE - 1) & (y > 0) & (y < HEAT_SIZE - 1)
    each, x, y = np.flatnonzero(inside), x[inside], y[inside]
    slope = [heat[each, y, x + 1] - heat[each, y, x - 1], heat[each, y + 1, x] - heat[each, y - 1, x]]
    place[inside] += 0.25 * np.sign(np.stack(slope, axis=1))
    return (np.array([left, top]) + place * side / HEAT_SIZE - 0.5).astype(np.float32)
