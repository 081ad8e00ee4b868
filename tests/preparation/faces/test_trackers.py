from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.weights import registry as weights
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import scan
from preparation.faces.landmarks import interocular, mouth_opening
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.faces.track import NOT_LOOKED
from preparation.faces.trackers import make_tracker, tracker_name
from preparation.faces.truth_tracker import TruthTracker, read_truth
from preparation.media.video import open_video
from preparation.settings import FaceSettings


@pytest.fixture
def with_weights(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))


@pytest.fixture
def without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(weights.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(weights, "BESIDE_THE_PROJECT", tmp_path / "nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tracker(with_weights: None) -> Iterator[MediaPipeTracker]:
    with closing(MediaPipeTracker(FaceSettings(every=3))) as loaded:
        yield loaded


@pytest.fixture
def clips(clips_dir: Path) -> dict[str, Clip]:
    return {clip.path: clip for clip in scan("folder", clips_dir).clips}


def test_a_real_face_is_followed(tracker: MediaPipeTracker, clips: dict[str, Clip], clips_dir: Path) -> None:
    name = "grid/bbaf2n.mpg"
    track = tracker.track(islice(open_video(clips_dir / name).frames(), 20), clips[name], clips_dir)
    assert track.landmarks.shape == (20, 68, 2)
    looked = np.flatnonzero(track.faces != NOT_LOOKED).tolist()
    assert looked == [0, 3, 6, 9, 12, 15, 18, 19]
    assert (track.faces[looked] == 1).all() and track.face_rate == 1
    seen = track.landmarks[looked]
    assert np.isnan(track.landmarks[1]).all()
    assert (interocular(seen) > 40).all() and (interocular(seen) < 70).all()
    # Brows above eyes above nose above mouth above chin, and the person's right eye on the left.
    heights = [seen[:, part, 1].mean() for part in (slice(17, 27), slice(36, 48), slice(31, 36), slice(48, 68), [8])]
    assert heights == sorted(heights)
    assert (seen[:, 36, 0] < seen[:, 45, 0]).all()
    assert (mouth_opening(seen) < 0.5).all()


def test_the_larger_face_is_chosen_and_kept(tracker: MediaPipeTracker, clips: dict[str, Clip], clips_dir: Path) -> None:
    """Two real people side by side, one shrunk: the large one is tracked although both are found."""
    left = open_video(clips_dir / "grid/bbaf2n.mpg").all()[:7]
    right = open_video(clips_dir / "grid/lbax4n.mpg").all()[:7]
    small = np.stack([cv2.resize(frame[:, 90:270], (135, 216)) for frame in right])
    both = np.concatenate([np.pad(small, ((0, 0), (36, 36), (0, 0), (0, 0))), left[:, :, 90:270]], axis=2)
    track = tracker.track(both, clips["grid/bbaf2n.mpg"], clips_dir)
    looked = track.faces != NOT_LOOKED
    assert (track.faces[looked] == 2).all()
    assert (track.landmarks[looked][..., 0].mean(1) > 135).all()


def test_no_face_is_no_error(tracker: MediaPipeTracker, clips: dict[str, Clip], clips_dir: Path) -> None:
    blank = np.full((5, 64, 64, 3), 120, dtype=np.uint8)
    track = tracker.track(blank, clips["grid/bbaf2n.mpg"], clips_dir)
    assert track.face_rate == 0 and np.isnan(track.landmarks).all()


def test_truth_is_taken_as_it_is(studio_corpus: Path) -> None:
    clip = scan("studio", studio_corpus).clips[0]
    track = TruthTracker().track(open_video(studio_corpus / clip.path).frames(), clip, studio_corpus)
    np.testing.assert_array_equal(track.landmarks, read_truth(studio_corpus / str(clip.truth))["landmarks"])


def test_truth_of_another_length_is_refused(studio_corpus: Path) -> None:
    clip = scan("studio", studio_corpus).clips[0]
    save_file({"landmarks": np.zeros((7, 68, 2), dtype=np.float32)}, studio_corpus / str(clip.truth))
    with pytest.raises(CorruptFileError, match="7 frames"):
        TruthTracker().track(open_video(studio_corpus / clip.path).frames(), clip, studio_corpus)


def test_damaged_truth_is_refused(studio_corpus: Path) -> None:
    clip = scan("studio", studio_corpus).clips[0]
    (studio_corpus / str(clip.truth)).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{]")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_truth(studio_corpus / str(clip.truth))


def test_auto_falls_back_to_the_truth(without_weights: None) -> None:
    assert tracker_name(FaceSettings()) == "truth"
    assert isinstance(make_tracker(FaceSettings()), TruthTracker)
    with pytest.raises(MissingWeightError, match=weights.ENVIRONMENT_VARIABLE):
        make_tracker(FaceSettings(tracker="mediapipe"))


def test_real_clip_without_tracker_says_what_to_do(clips: dict[str, Clip], clips_dir: Path) -> None:
    clip = clips["grid/bbaf2n.mpg"]
    with pytest.raises(PrivFedTalkError, match=r"face_landmarker\.task"):
        TruthTracker().track([], clip, clips_dir)


def test_auto_prefers_mediapipe(with_weights: None) -> None:
    assert tracker_name(FaceSettings()) == "mediapipe"
