"""The choice of a face tracker: MediaPipe, face-alignment, or the ground truth of a rendered corpus."""

from __future__ import annotations

from common.weights import registry as weights
from preparation.faces.fan_tracker import FaceAlignmentTracker
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.faces.truth_tracker import TruthTracker
from preparation.settings import FaceSettings


def tracker_name(settings: FaceSettings) -> str:
    """The name of the configured tracker; `auto` is MediaPipe where its file is present, else the ground truth."""
    if settings.tracker == "auto":
        return TruthTracker.name if weights.find_optional("face_landmarker") is None else MediaPipeTracker.name
    return settings.tracker


def tracker_weights(settings: FaceSettings) -> tuple[str, ...]:
    """The registered files that the tracker needs."""
    needed = {each.name: each.needs for each in (MediaPipeTracker, FaceAlignmentTracker, TruthTracker)}
    return needed[tracker_name(settings)]


def make_tracker(settings: FaceSettings) -> MediaPipeTracker | FaceAlignmentTracker | TruthTracker:
    """Load the configured tracker; close it when done."""
    name = tracker_name(settings)
    if name == TruthTracker.name:
        return TruthTracker()
    return MediaPipeTracker(settings) if name == MediaPipeTracker.name else FaceAlignmentTracker(settings)


def open_detector(settings: FaceSettings) -> MediaPipeTracker | FaceAlignmentTracker | None:
    """The configured tracker, for single pictures; None for the ground truth of rendered clips, which says nothing
    about other pictures. Close it when done."""
    tracker = make_tracker(settings)
    return None if isinstance(tracker, TruthTracker) else tracker
