"""Cuts between real and drawn shots: found where they are, not where a head moves; a crop keeps one scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from common.weights import registry as weights
from preparation.corpora.manifest import scan
from preparation.crops.crop import CropResult, load_crop, prepare_clip
from preparation.crops.cutting import CutPlan
from preparation.crops.pieces import crop_names
from preparation.crops.scenes import find_scenes
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.faces.truth_tracker import TruthTracker
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.quarantine import QuarantineRow
from preparation.settings import FaceSettings, PreparationSettings, QualitySettings, SceneSettings

SETTINGS = SceneSettings(detect=True)
CUT = 30
SPEAKERS = ("retalking_face_2.mp4", "retalking_face_4.mp4")


def drawn(frames: int, hue: int, seed: int) -> NDArray[np.uint8]:
    """A shot of a moving camera over a smooth texture, uint8 [T, 90, 120, 3]."""
    rng = np.random.default_rng(seed)
    wide = cv2.resize(rng.integers(40, 200, (9, 20, 3), dtype=np.uint8), (240, 90), interpolation=cv2.INTER_CUBIC)
    wide[..., hue] //= 3
    return np.stack([wide[:, start : start + 120] for start in range(frames)])


def shot(path: Path, frames: int) -> list[NDArray[np.uint8]]:
    return [
        cv2.resize(frame, (360, 360), interpolation=cv2.INTER_AREA)
        for frame in islice(open_video(path).frames(), frames)
    ]


def test_cuts_between_drawn_shots_are_found_to_the_frame() -> None:
    shots = [drawn(40, 0, 1), drawn(25, 1, 2), drawn(60, 2, 3)]
    assert find_scenes(chain(*shots), SETTINGS) == [slice(0, 40), slice(40, 65), slice(65, 125)]


def test_a_moving_camera_is_no_cut_and_few_frames_are_one_scene() -> None:
    assert find_scenes(iter(drawn(100, 0, 1)), SETTINGS) == [slice(0, 100)]
    assert find_scenes(iter(drawn(1, 0, 1)), SETTINGS) == [slice(0, 1)]
    assert find_scenes(iter(drawn(3, 0, 1)), SETTINGS) == [slice(0, 3)]


@pytest.fixture(scope="module")
def corpus(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip with a cut: 30 frames of one person, then 45 of another."""
    root = tmp_path_factory.mktemp("scenes")
    frames = shot(clips_dir / SPEAKERS[0], CUT) + shot(clips_dir / SPEAKERS[1], 45)
    encode(frames, open_sound(clips_dir / SPEAKERS[0]).in_step()[: 75 * 640], root / "joined.mp4")
    return root


@pytest.fixture
def tracker(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaPipeTracker]:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    made = MediaPipeTracker(FaceSettings())
    yield made
    made.close()


def test_a_crop_keeps_the_longest_scene_and_says_so(corpus: Path, tmp_path: Path, tracker: MediaPipeTracker) -> None:
    (clip,) = scan("folder", corpus).clips
    settings = PreparationSettings(scenes=SETTINGS)
    assert prepare_clip(clip, corpus, tmp_path / "on", settings, tracker) == CropResult(clip.clip_id, 45, kept=False)
    crop = load_crop(tmp_path / "on", clip.name)
    assert crop.metadata["scenes"] == [[0, CUT], [CUT, 75]] and crop.metadata["scene_kept"] == 1
    assert crop.metadata["first_frame"] == CUT
    np.testing.assert_array_equal(crop.audio, open_sound(corpus / clip.path).in_step()[CUT * 640 : 75 * 640])
    # The same frames alone give the same face.
    alone = tracker.track(islice(open_video(corpus / clip.path).frames(), CUT, None), clip, corpus)
    inverse = np.linalg.inv(crop.transforms[0, :, :2])
    back = (crop.landmarks[0] - crop.transforms[0, :, 2]) @ inverse.T
    assert np.abs(back - alone.landmarks[0]).max() < 3


def test_a_recording_that_is_cut_keeps_every_shot(corpus: Path, tmp_path: Path, tracker: MediaPipeTracker) -> None:
    (clip,) = scan("folder", corpus).clips
    settings = PreparationSettings(scenes=SETTINGS)
    result = prepare_clip(clip, corpus, tmp_path, settings, tracker, plan=CutPlan(75, 250))
    assert isinstance(result, CropResult) and (result.crops, result.frames, result.rows) == (2, 75, ())
    shots = [load_crop(tmp_path, name) for name in crop_names(tmp_path, clip.name)]
    assert [(crop.metadata["first_frame"], crop.metadata["frames"]) for crop in shots] == [(0, CUT), (CUT, 75 - CUT)]
    assert [crop.metadata["scene_kept"] for crop in shots] == [0, 1]
    sound = open_sound(corpus / clip.path).in_step()
    np.testing.assert_array_equal(np.concatenate([crop.audio for crop in shots]), sound[: 75 * 640])
    # A shot that fails a filter is a row with its time; the other stays.
    strict = PreparationSettings(scenes=SETTINGS, quality=QualitySettings(minimum_frames=40))
    result = prepare_clip(clip, corpus, tmp_path, strict, tracker, plan=CutPlan(75, 250))
    assert isinstance(result, CropResult) and result.frames == 45
    (row,) = result.rows
    assert row.reason == "0.0–1.2 s: only 30 frames in a row with a face, 40 are needed"


def test_scenes_that_are_all_too_short_are_a_row_that_counts_them(
    corpus: Path, tmp_path: Path, tracker: MediaPipeTracker
) -> None:
    (clip,) = scan("folder", corpus).clips
    settings = PreparationSettings(scenes=SETTINGS, quality=QualitySettings(minimum_frames=60))
    row = prepare_clip(clip, corpus, tmp_path, settings, tracker)
    assert isinstance(row, QuarantineRow)
    assert row.reason == "only 45 frames in a row with a face, 60 are needed in the best of its 2 scenes"


def test_looking_for_cuts_changes_no_rendered_clip(studio_corpus: Path, tmp_path: Path) -> None:
    """Off by default, and where the truth is known never looked for: the same crop, byte for byte."""
    clip = scan("studio", studio_corpus).clips[0]
    quality = QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
    plain = PreparationSettings(faces=FaceSettings(tracker="truth"), quality=quality)
    looking = plain.model_copy(update={"scenes": SETTINGS})
    for name, settings in (("off", plain), ("on", looking)):
        assert isinstance(prepare_clip(clip, studio_corpus, tmp_path / name, settings, TruthTracker()), CropResult)
    for suffix in ("mp4", "safetensors"):
        off, on = ((tmp_path / name / f"{clip.name}.{suffix}").read_bytes() for name in ("off", "on"))
        assert off == on
    described = json.loads((tmp_path / "off" / f"{clip.name}.json").read_text())
    assert "scenes" not in described
    assert described["settings"] == plain.crop_fingerprint() != looking.crop_fingerprint()


@pytest.mark.slow
def test_real_clips_of_one_shot_are_not_cut(clips_dir: Path) -> None:
    paths = [path for pattern in ("*.mpg", "*.mp4") for path in clips_dir.rglob(pattern)]
    assert len(paths) >= 19
    assert [path.name for path in paths if len(find_scenes(open_video(path).frames(), SETTINGS)) > 1] == []
