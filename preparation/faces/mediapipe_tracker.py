"""MediaPipe's Face Landmarker as a face tracker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.native_output import without_chatter
from common.weights import registry as weights
from preparation.corpora.clip import Clip
from preparation.faces.follower import follow
from preparation.faces.landmarks import MEDIAPIPE_TO_IBUG, Landmarks
from preparation.faces.track import Seen, Track
from preparation.media.track.frames import Frame, Picture
from preparation.settings import FaceSettings


class MediaPipeTracker:
    """MediaPipe's Face Landmarker (478 points, mapped to iBUG-68) on single images.

    Image mode has no memory, so a clip's track depends on the clip alone; its jitter is removed afterwards by a filter
    without lag. Choose it for real faces.
    """

    name = "mediapipe"
    needs = ("face_landmarker",)
    trembles = True

    def __init__(self, settings: FaceSettings) -> None:
        model = weights.find("face_landmarker")
        # MediaPipe takes seconds to import, which a run with another tracker should not wait for.
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        self._settings = settings
        self._mp = mp
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=settings.max_faces,
            min_face_detection_confidence=settings.minimum_confidence,
            min_face_presence_confidence=settings.minimum_confidence,
        )
        with without_chatter():
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            # The first detection loads the rest and writes messages: a blank picture does that inside this block.
            self.detect(np.zeros((64, 64, 3), dtype=np.uint8))

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        return follow(frames, self.detect, self._settings, seen)

    def detect(self, frame: Frame) -> list[Landmarks]:
        """All faces of one RGB frame, each float32 [68, 2] in pixels (0 is the first pixel's centre)."""
        image = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        size = np.array([frame.shape[1], frame.shape[0]], dtype=np.float32)
        return [
            np.array([(points[i].x, points[i].y) for i in MEDIAPIPE_TO_IBUG], dtype=np.float32) * size - 0.5
            for points in self._landmarker.detect(image).face_landmarks
        ]

    def close(self) -> None:
        self._landmarker.close()
