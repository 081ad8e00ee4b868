"""face-alignment's networks: the detector as published, 2DFAN's architecture with random weights, the steps between."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import cv2
import face_alignment.utils as published
import numpy as np
import pytest
import torch
from face_alignment.detection.blazeface import FaceDetector
from face_alignment.models import FAN

from common.errors import CorruptFileError, MissingWeightError
from common.weights import registry as weights
from preparation.corpora.manifest import scan
from preparation.faces.fan_tracker import (
    MIRRORED,
    FaceAlignmentTracker,
    cut,
    decode,
    find_faces,
    framing,
    window_corners,
    without_doubles,
)
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.faces.track import NOT_LOOKED
from preparation.faces.trackers import make_tracker, tracker_weights
from preparation.media.video import open_video
from preparation.settings import FaceSettings

CLIPS = ["grid/bbaf2n.mpg", "lrs3/pretrain/C8zY0oAdQrs/00018.mp4", "latentsync_demo1.mp4"]
SETTINGS = FaceSettings(tracker="face_alignment", every=2)


@pytest.fixture(scope="module")
def random_fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2DFAN-4's architecture with random weights, in the published file's format: a plain state dict."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("fan") / weights.REGISTRY["2dfan4"].file
    torch.save(FAN(4).state_dict(), path)
    return path


@pytest.fixture
def folder(random_fan: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the real detector and the random 2DFAN, which the registry takes for the real one."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("blazeface", "blazeface_anchors"):
        (folder / weights.REGISTRY[name].file).symlink_to(weights_dir / weights.REGISTRY[name].file)
    (folder / random_fan.name).symlink_to(random_fan)
    digest = hashlib.sha256(random_fan.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.REGISTRY, "2dfan4", replace(weights.REGISTRY["2dfan4"], sha256=digest))
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def tracker(folder: Path) -> Iterator[FaceAlignmentTracker]:
    with closing(make_tracker(SETTINGS)) as loaded:
        assert isinstance(loaded, FaceAlignmentTracker)
        yield loaded


@pytest.fixture
def detector(weights_dir: Path) -> FaceDetector:
    return FaceDetector(
        "cpu",
        path_to_detector=str(weights_dir / "blazeface.pth"),
        path_to_anchor=str(weights_dir / "blazeface_anchors.npy"),
        min_score_thresh=0.4,
    )


@pytest.fixture
def as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's decoder without numba, which compiles for longer than it is used here."""
    for name in ("transform_np", "_get_preds_fromhm"):
        monkeypatch.setattr(published, name, getattr(published, name).py_func)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    shared = np.prod(np.maximum(np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2]), 0))
    return float(shared / (np.prod(one[2:4] - one[:2]) + np.prod(other[2:4] - other[:2]) - shared))


def test_detector_finds_the_faces_that_mediapipe_finds(
    detector: FaceDetector, clips_dir: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MediaPipe's landmarks span brows to chin, BlazeFace's boxes forehead to chin."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    with closing(MediaPipeTracker(FaceSettings())) as mediapipe:
        for name in CLIPS:
            frame = next(islice(open_video(clips_dir / name).frames(), 12, None))
            boxes, (points,) = find_faces(detector, frame), mediapipe.detect(frame)
            assert boxes.shape == (1, 5) and boxes[0, 4] > 0.7
            assert overlap(boxes[0], np.concatenate([points.min(0), points.max(0)])) > 0.6, name


def test_a_face_at_the_edge_of_a_wide_frame_is_found(detector: FaceDetector, clips_dir: Path) -> None:
    """The package itself looks at the middle square only; a double from the other window is one face."""
    frame = next(open_video(clips_dir / CLIPS[0]).frames())
    (plain,) = find_faces(detector, frame)
    wide = np.full((288, 1000, 3), 90, dtype=np.uint8)
    wide[:, -360:] = frame
    assert len(detector.detect_from_image(wide)) == 0
    (shifted,) = find_faces(detector, wide)
    np.testing.assert_allclose(shifted[:4] - [640, 0, 640, 0], plain[:4], atol=6)


def test_channels_are_red_green_blue(detector: FaceDetector, clips_dir: Path) -> None:
    frame = next(open_video(clips_dir / CLIPS[0]).frames())
    assert find_faces(detector, frame)[0, 4] > find_faces(detector, frame[..., ::-1])[0, 4]


def test_windows_cover_the_frame() -> None:
    for height, width in ((224, 224), (288, 360), (720, 1280), (1920, 1080), (100, 1000)):
        corners, side = window_corners(height, width), min(height, width)
        starts = [max(corner) for corner in corners]
        assert starts[0] == 0 and starts[-1] == max(height, width) - side
        assert all(later - earlier <= side / 2 + 1 for earlier, later in pairwise(starts))


def test_doubles_leave_the_surer_one() -> None:
    boxes = np.array([[0, 0, 10, 10, 0.5], [1, 0, 11, 10, 0.9], [0, 0, 4, 4, 0.6], [20, 0, 30, 10, 0.7]], np.float32)
    np.testing.assert_array_equal(without_doubles(boxes), boxes[[1, 3]])


def test_framing_and_cut_are_the_packages(clips_dir: Path) -> None:
    """The package cuts whole pixels and ours does not: up to two pixels of its cut may lie between them."""
    frame = next(open_video(clips_dir / CLIPS[0]).frames())
    box = np.array([88.0, 122.0, 221.0, 255.0, 0.9])
    left, top, right, bottom = box[:4]
    centre = np.array([(left + right) / 2, (top + bottom) / 2 - published.CENTER_Y_OFFSET * (bottom - top)])
    scale = (right - left + bottom - top) / published.REFERENCE_SCALE
    theirs, ours = published.crop(frame, centre, scale), cut(frame, framing(box))
    assert ours.shape == theirs.shape == (256, 256, 3)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in (theirs, ours)]
    (right_by, down_by), response = cv2.phaseCorrelate(grey[0][60:, 30:-30].copy(), grey[1][60:, 30:-30].copy())
    assert abs(right_by) < 2 and abs(down_by) < 2 and response > 0.5


def test_decoding_is_the_packages_but_for_its_rounding(as_python: None) -> None:
    heat = np.random.default_rng(0).random((68, 64, 64), dtype=np.float32)
    square = framing(np.array([88.0, 122.0, 221.0, 255.0, 0.9]))
    scale = square[2] / published.SCALE_FACTOR
    centre = np.array(square[:2]) + square[2] / 2
    _, rounded, _ = published.get_preds_fromhm(heat[None].copy(), centre, scale)
    # Theirs cuts to whole pixels off a count from the first one's edge, ours counts from its centre.
    difference = decode(heat, square) + 0.5 - rounded[0]
    assert difference.min() > -1e-3 and difference.max() < 1 + 1e-3


def test_a_known_source_pixel_comes_back(clips_dir: Path) -> None:
    """Bright dots in a dark frame pass the cut; their brightness at a quarter of the size is the heat."""
    rng = np.random.default_rng(0)
    box = np.array([100.0, 60.0, 260.0, 220.0, 0.9])
    square = framing(box)
    left, top, side = square
    inner = rng.uniform(0.05, 0.95, (68, 2)) * side + [left, top]
    inner = np.clip(inner, 12, [307, 227])
    heat = np.zeros((68, 64, 64), dtype=np.float32)
    for place, (x, y) in enumerate(inner):
        frame = np.zeros((240, 320, 3), dtype=np.uint8)
        cv2.circle(frame, (round(x * 16), round(y * 16)), 6 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
        soft = cv2.GaussianBlur(cut(frame, square)[..., 0].astype(np.float32), (0, 0), 6)
        heat[place] = soft.reshape(64, 4, 64, 4).mean((1, 3))
    found = decode(heat, square)
    # The quarter step leaves at most a quarter of a heat map's pixel, which is 5.1 source pixels here.
    difference = found - inner
    assert np.abs(difference).max() < side / 64 / 4 + 0.3 and np.abs(difference.mean(0)).max() < 0.3


def test_the_mirror_swaps_the_points_that_the_package_swaps() -> None:
    heat = torch.arange(68.0)[None, :, None, None]
    np.testing.assert_array_equal(published.shuffle_lr(heat)[0, :, 0, 0].numpy(), MIRRORED)


def test_points_are_those_of_the_package_on_a_real_clip(
    tracker: FaceAlignmentTracker, clips_dir: Path, as_python: None
) -> None:
    """Its mirroring and decoding of the same network's heat maps. Two pictures in one batch round otherwise than one by
    one, which can move the hottest pixel of a random network: nearly all points are compared."""
    frame = next(open_video(clips_dir / CLIPS[0]).frames())
    (box,) = find_faces(tracker._detector, frame)
    (ours,) = tracker.detect(frame)
    square = framing(box)
    picture = torch.from_numpy(cut(frame, square).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.no_grad():
        heat = tracker._network(picture)[-1] + published.flip(
            tracker._network(published.flip(picture))[-1], is_label=True
        )
    _, theirs, _ = published.get_preds_fromhm(
        heat.numpy(), np.array(square[:2]) + square[2] / 2, square[2] / published.SCALE_FACTOR
    )
    assert ours.shape == (68, 2) and ours.dtype == np.float32
    near = np.abs(ours - theirs[0]).max(1) <= 0.5 + 1e-3
    assert near.mean() > 0.95


@pytest.mark.slow(minutes=0.1)
def test_a_clip_is_followed_on_every_second_frame(tracker: FaceAlignmentTracker, clips_dir: Path) -> None:
    clip = next(clip for clip in scan("folder", clips_dir).clips if clip.path == CLIPS[0])
    track = tracker.track(islice(open_video(clips_dir / clip.path).frames(), 4), clip, clips_dir)
    assert (track.faces != NOT_LOOKED).tolist() == [True, False, True, True]
    assert (track.faces[[0, 2, 3]] == 1).all()
    assert np.isnan(track.landmarks[1]).all() and np.isfinite(track.landmarks[[0, 2, 3]]).all()
    blank = tracker.track(np.full((1, 64, 64, 3), 120, dtype=np.uint8), clip, clips_dir)
    assert blank.face_rate == 0 and np.isnan(blank.landmarks).all()


def test_all_absent_files_are_named_at_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracker_weights(SETTINGS) == ("blazeface", "blazeface_anchors", "2dfan4")
    (folder / "blazeface.pth").unlink()
    (folder / weights.REGISTRY["2dfan4"].file).unlink()
    with pytest.raises(MissingWeightError) as caught:
        make_tracker(SETTINGS)
    assert "https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar" in caught.value.remedy
    assert "blazeface.pth" in caught.value.reason and "anchors" not in caught.value.reason


def test_another_file_under_2dfans_name_is_refused(
    folder: Path, random_fan: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = weights.REGISTRY["2dfan4"]
    monkeypatch.setitem(weights.REGISTRY, "2dfan4", replace(entry, sha256="11f355bf06" + "0" * 54))
    with pytest.raises(CorruptFileError, match="sha256"):
        make_tracker(SETTINGS)
    other = folder / entry.file
    other.unlink()
    torch.save(FAN(1).state_dict(), other)
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.REGISTRY, "2dfan4", replace(entry, sha256=digest))
    with pytest.raises(CorruptFileError, match="does not hold 2DFAN-4"):
        make_tracker(SETTINGS)
