"""Clips too large to be held: their crops are those of held ones, from parts kept on the way or decoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preparation.corpora.clip import Clip
from preparation.corpora.manifest import scan
from preparation.crops import footage as module
from preparation.crops.crop import Crop, CropResult, load_crop, prepare_clip
from preparation.crops.footage import Keeper
from preparation.faces.follower import follow
from preparation.faces.track import Seen, Track
from preparation.faces.truth_tracker import TruthTracker, read_truth
from preparation.media.track.frames import Frame, Picture
from preparation.media.video import Video, open_video
from preparation.settings import CropSettings, FaceSettings, PreparationSettings, QualitySettings
from tests.preparation.conftest import WriteClip

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"),
    crops=CropSettings(size=64),
    quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0, minimum_frames=10),
)


class Looking:
    """Finds the true face in every second frame, but in none of those `missing`."""

    name, trembles = "looking", True

    def __init__(self, missing: range = range(0)) -> None:
        self.missing = missing

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        assert clip.truth is not None
        truth = read_truth(corpus_root / clip.truth)["landmarks"]
        looked = iter([*range(0, len(truth), 2), len(truth) - 1])

        def detect(frame: np.ndarray) -> list[np.ndarray]:
            index = next(looked)
            return [] if index in self.missing else [truth[index]]

        return follow(frames, detect, FaceSettings(every=2), seen)

    def close(self) -> None:
        pass


@pytest.fixture
def clip(studio_corpus: Path) -> Clip:
    return scan("studio", studio_corpus).clips[0]


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time a clip's pictures are decoded."""
    counted: list[str] = []
    for name in ("frames", "pictures", "parts"):
        real = getattr(Video, name)

        def counting(*arguments: Any, _real: Callable[..., Any] = real, _name: str = name, **named: Any) -> Any:
            counted.append(_name)
            return _real(*arguments, **named)

        monkeypatch.setattr(Video, name, counting)
    return counted


def bytes_of(clip: Clip) -> int:
    return clip.frames * clip.width * clip.height * 3


def crop(clip: Clip, root: Path, folder: Path, tracker: Looking | TruthTracker) -> Crop:
    assert isinstance(prepare_clip(clip, root, folder, SETTINGS, tracker), CropResult)
    return load_crop(folder, clip.name)


@pytest.mark.parametrize("missing", [range(0), range(0, 6), range(8, 15), range(4, 17), range(20, 30)])
def test_crops_are_the_same_however_much_is_held(
    clip: Clip,
    studio_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decodings: list[str],
    missing: range,
) -> None:
    """All frames, the parts around the face, or none; with a face that is away at first, shortly, long, at the end."""
    made = {}
    for name, limit in {"held": bytes_of(clip), "parts": bytes_of(clip) - 1, "none": 0}.items():
        monkeypatch.setattr(module, "HELD_BYTES", limit)
        made[name] = crop(clip, studio_corpus, tmp_path / name, Looking(missing))
    assert decodings == ["frames", "pictures", "pictures", "parts", "pictures"]
    for other in ("parts", "none"):
        assert made[other].video.read_bytes() == made["held"].video.read_bytes()
        np.testing.assert_array_equal(made[other].landmarks, made["held"].landmarks)


def test_a_tracker_that_tells_nothing_has_its_clips_decoded_twice(
    clip: Clip, studio_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[str]
) -> None:
    held = crop(clip, studio_corpus, tmp_path / "held", TruthTracker())
    monkeypatch.setattr(module, "HELD_BYTES", bytes_of(clip) - 1)
    streamed = crop(clip, studio_corpus, tmp_path / "streamed", TruthTracker())
    assert decodings == ["frames", "pictures", "parts", "pictures"]
    assert held.video.read_bytes() == streamed.video.read_bytes()


@pytest.mark.slow(minutes=0.1)
def test_only_parts_are_kept_and_none_of_a_long_gap(
    write_clip: WriteClip, tmp_path: Path, clip: Clip, studio_corpus: Path
) -> None:
    assert clip.truth is not None
    face = read_truth(studio_corpus / clip.truth)["landmarks"][0] / 4 + 400
    keeper = Keeper(CropSettings(size=64), longest_gap=4, limit_bytes=10**9, count=30)
    pictures = list(open_video(write_clip(tmp_path / "large.mp4", frames=30, height=640, width=640)).pictures())
    whole = pictures[0].bytes
    for index, _ in enumerate(keeper.through(pictures)):
        if index in (3, 6, 20):
            keeper.seen(face)
    sizes = [picture.bytes for picture in pictures]
    assert sizes[:3] == [whole] * 3 and max(sizes[3:7]) < whole / 8 and sizes[20] < whole / 8
    box = (400, 400, 432, 432)
    assert keeper.parts(slice(3, 7), [box] * 4) is not None
    for kept in (slice(2, 7), slice(6, 20), slice(3, 21), slice(20, 23)):
        assert keeper.parts(kept, [box] * (kept.stop - kept.start)) is None
    assert keeper.parts(slice(3, 4), [(0, 0, 32, 32)]) is None, "outside what was kept"


@pytest.mark.parametrize(("count", "kept"), [(200, 200), (2_000, 0)])
def test_what_will_not_fit_is_given_up_early(
    write_clip: WriteClip, tmp_path: Path, clip: Clip, studio_corpus: Path, count: int, kept: int
) -> None:
    """Of a clip of ten minutes, a quarter of a gigabyte was kept in small pieces first, and never given back."""
    assert clip.truth is not None
    face = read_truth(studio_corpus / clip.truth)["landmarks"][0]
    pictures = list(open_video(write_clip(tmp_path / "clip.mp4", frames=2, height=128, width=128)).pictures())
    keeper = Keeper(CropSettings(size=64), longest_gap=4, limit_bytes=300 * pictures[0].bytes, count=count)
    for index, _ in enumerate(keeper.through(copy(pictures[0]) for _ in range(200))):
        keeper.seen(face)
        assert index < 100 or len(keeper._kept) in (0, index + 1)
    assert len(keeper._kept) == kept


def test_a_trimmed_picture_still_draws_its_part(write_clip: WriteClip, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames=2, height=150, width=202)
    whole, picture = next(open_video(path).frames()), next(open_video(path).pictures())
    np.testing.assert_array_equal(np.asarray(picture), whole)
    assert isinstance(picture, Picture) and (picture.height, picture.width) == (150, 202)
    picture.trim((40, 30, 120, 100))
    left, top, right, bottom = 50, 41, 97, 88
    assert picture.covers((left, top, right, bottom)) and not picture.covers((0, 0, 50, 50))
    drawn = picture.draw((left, top, right, bottom), None)
    np.testing.assert_array_equal(drawn[top:bottom, left:right], whole[top:bottom, left:right])
    with pytest.raises(AssertionError, match="trimmed"):
        np.asarray(picture)
