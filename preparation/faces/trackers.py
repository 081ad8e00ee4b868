"""Who finds the face: MediaPipe's landmarker, or the truth that a rendered corpus brings along."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from preparation import weights
from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.faces.landmarks import MEDIAPIPE_TO_IBUG, Landmarks
from preparation.faces.track import NOT_LOOKED, FaceTracker, Track
from preparation.manifest import Clip
from preparation.native_output import without_chatter
from preparation.settings import FaceSettings
from preparation.video import Frame


class MediaPipeTracker:
    """MediaPipe's Face Landmarker (478 points, mapped to iBUG-68) on single images.

    Image mode has no memory, so a clip's track depends on the clip alone; its tremble is taken out
    afterwards by a filter without lag. Choose it for real faces.
    """

    name = "mediapipe"
    trembles = True

    def __init__(self, settings: FaceSettings) -> None:
        # MediaPipe takes seconds to import and lower floors must not pay for it when the truth is used.
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        self._settings = settings
        self._mp = mp
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(weights.find("face_landmarker"))),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=settings.max_faces,
            min_face_detection_confidence=settings.minimum_confidence,
            min_face_presence_confidence=settings.minimum_confidence,
        )
        with without_chatter():
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            # The first look loads the rest, and says so; a blank picture brings that forward.
            self.detect(np.zeros((64, 64, 3), dtype=np.uint8))

    def track(self, frames: Iterable[Frame], clip: Clip, corpus_root: Path) -> Track:
        """Look at every n-th frame and at the last one; the frames between are left to `bridge_gaps`."""
        landmarks: list[Landmarks] = []
        counts: list[int] = []
        follower = _Follower(self._settings.longest_bridged_gap)
        missing = np.full((68, 2), np.nan, dtype=np.float32)
        last: Frame | None = None
        for index, frame in enumerate(frames):
            landmarks.append(missing)
            counts.append(NOT_LOOKED)
            last = frame
            if index % self._settings.every == 0:
                landmarks[index], counts[index] = self._look(frame, index, follower)
        if last is not None and counts[-1] == NOT_LOOKED:
            landmarks[-1], counts[-1] = self._look(last, len(counts) - 1, follower)
        stacked = np.stack(landmarks) if landmarks else np.zeros((0, 68, 2), dtype=np.float32)
        return Track(stacked, np.array(counts, dtype=np.int16))

    def close(self) -> None:
        self._landmarker.close()

    def _look(self, frame: Frame, index: int, follower: _Follower) -> tuple[Landmarks, int]:
        faces = self.detect(frame)
        chosen = follower.choose(faces, index, frame.shape[1], frame.shape[0])
        missing = np.full((68, 2), np.nan, dtype=np.float32)
        return (missing if chosen is None else faces[chosen]), len(faces)

    def detect(self, frame: Frame) -> list[Landmarks]:
        """All faces of one RGB frame, each float32 [68, 2] in pixels (0 is the first pixel's centre)."""
        image = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        size = np.array([frame.shape[1], frame.shape[0]], dtype=np.float32)
        return [
            np.array([(points[i].x, points[i].y) for i in MEDIAPIPE_TO_IBUG], dtype=np.float32) * size - 0.5
            for points in self._landmarker.detect(image).face_landmarks
        ]


class TruthTracker:
    """The landmarks that a rendered corpus states for each clip. Choose it without MediaPipe, or to rule it
    out."""

    name = "truth"
    trembles = False

    def track(self, frames: Iterable[Frame], clip: Clip, corpus_root: Path) -> Track:
        if clip.truth is None:
            raise PrivFedTalkError(
                f"{clip.path} has no truth beside it and no face tracker is at hand",
                remedy=f"provide face_landmarker.task ({weights.ENVIRONMENT_VARIABLE}) for clips of real faces",
            )
        landmarks = read_truth(corpus_root / clip.truth)["landmarks"]
        frames_there = sum(1 for _ in frames)
        if len(landmarks) != frames_there:
            raise CorruptFileError(
                f"{clip.truth} describes {len(landmarks)} frames, {clip.path} has {frames_there} at 25 fps",
                remedy="render the clip again",
            )
        return Track(landmarks, np.ones(len(landmarks), dtype=np.int16))

    def close(self) -> None:
        pass


def read_truth(path: Path) -> dict[str, np.ndarray]:
    """The studio's sidecar: landmarks [T, 68, 2], mouth_opening [T], pose [T, 3], blink [T], all float32."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}", remedy="render the corpus again") from error
    if tensors.get("landmarks", np.zeros(0)).shape[1:] != (68, 2):
        raise CorruptFileError(f"{path} holds no landmarks [T, 68, 2]", remedy="render the corpus again")
    return {name: np.asarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def tracker_name(settings: FaceSettings) -> str:
    """The tracker that the settings mean; `auto` is MediaPipe where its file is present."""
    if settings.tracker == "auto":
        return TruthTracker.name if weights.find_optional("face_landmarker") is None else MediaPipeTracker.name
    return settings.tracker


def make_tracker(settings: FaceSettings) -> FaceTracker:
    """Load the tracker that the settings mean; close it when done."""
    return TruthTracker() if tracker_name(settings) == TruthTracker.name else MediaPipeTracker(settings)


class _Follower:
    """Keeps to one person: the face nearest to where it was, or the largest and most central one at the
    start."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._centre = np.zeros(2)
        self._height = 0.0
        self._seen = -patience - 2

    def choose(self, faces: list[Landmarks], index: int, width: int, height: int) -> int | None:
        if not faces:
            return None
        centres = np.array([face.mean(0) for face in faces])
        heights = np.array([np.ptp(face[:, 1]) for face in faces])
        if index - self._seen > self._patience + 1:
            off_centre = np.linalg.norm(centres - np.array([width, height]) / 2, axis=1) / np.hypot(width, height)
            best = int(np.argmax(heights * (1 - off_centre)))
        else:
            distance = np.linalg.norm(centres - self._centre, axis=1)
            best = int(np.argmin(distance))
            if distance[best] > self._height:
                return None  # someone else, or a cut: let the gap decide
        self._centre, self._height, self._seen = centres[best], float(heights[best]), index
        return best
