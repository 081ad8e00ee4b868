from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import scan
from preparation.crops.crop import CropResult, has_crop, load_crop, prepare_clip
from preparation.faces.alignment import source_boxes, template, warp
from preparation.faces.landmarks import MOUTH, STABLE
from preparation.faces.track import Seen, Track
from preparation.faces.truth_tracker import TruthTracker
from preparation.media.conversions import Conversions
from preparation.media.sound import open_sound
from preparation.media.track.frames import Frame, Picture
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.quarantine import QuarantineRow
from preparation.settings import CropSettings, FaceSettings, PreparationSettings, QualitySettings
from tests.preparation.conftest import MakeFace, WriteClip
from tests.preparation.media.made_clips import damage

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)


@pytest.fixture
def clip(studio_corpus: Path) -> Clip:
    return scan("studio", studio_corpus).clips[0]


def prepare(
    clip: Clip, root: Path, folder: Path, settings: PreparationSettings = SETTINGS
) -> CropResult | QuarantineRow:
    return prepare_clip(clip, root, folder, settings, TruthTracker())


def test_a_clip_becomes_an_aligned_crop(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    assert prepare(clip, studio_corpus, tmp_path) == CropResult(clip.clip_id, 30, kept=False)
    crop = load_crop(tmp_path, clip.name)
    frames = list(crop.frames())
    assert len(frames) == 30 and frames[0].shape == (128, 128, 3)
    assert crop.landmarks.shape == (30, 68, 2) and crop.landmarks.dtype == np.float32
    assert crop.transforms.shape == (30, 2, 3)
    assert crop.audio.shape == (30 * 640,) and crop.audio.dtype == np.int16
    np.testing.assert_array_equal(crop.audio, open_sound(studio_corpus / clip.path).in_step()[: 30 * 640])
    assert crop.mouth_opening is not None and crop.mouth_opening.shape == (30,)
    np.testing.assert_allclose(
        crop.landmarks[:, STABLE], np.broadcast_to(template(CropSettings()), (30, 9, 2)), atol=1.0
    )
    assert (crop.metadata["tracker"], crop.metadata["source_sha256"]) == ("truth", clip.sha256)
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(clip.name)} == {
        f"{clip.name}.{suffix}" for suffix in ("mp4", "safetensors", "json")
    }


def test_what_only_reading_shows_stands_in_the_description(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    prepare(clip, studio_corpus, tmp_path)
    assert load_crop(tmp_path, clip.name).metadata["conversions"] == {}
    damage(studio_corpus / clip.path, [25])
    (broken,) = [one for one in scan("studio", studio_corpus).clips if one.clip_id == clip.clip_id]
    assert broken.conversions == Conversions()
    assert isinstance(prepare(broken, studio_corpus, tmp_path), CropResult)
    crop = load_crop(tmp_path, clip.name)
    assert len(list(crop.frames())) == 30 and 1 <= crop.metadata["conversions"]["lost_frames"] <= 3


def test_unchanged_crops_are_kept_and_changed_ones_redone(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    prepare(clip, studio_corpus, tmp_path)
    before = (tmp_path / f"{clip.name}.mp4").stat().st_mtime_ns
    assert prepare(clip, studio_corpus, tmp_path) == CropResult(clip.clip_id, 30, kept=True)
    assert (tmp_path / f"{clip.name}.mp4").stat().st_mtime_ns == before
    other_shards = SETTINGS.model_copy(update={"shards": SETTINGS.shards.model_copy(update={"max_bytes": 5000})})
    assert prepare(clip, studio_corpus, tmp_path, other_shards) == CropResult(clip.clip_id, 30, kept=True)
    smaller = SETTINGS.model_copy(update={"crops": CropSettings(size=64)})
    assert prepare(clip, studio_corpus, tmp_path, smaller) == CropResult(clip.clip_id, 30, kept=False)
    assert next(load_crop(tmp_path, clip.name).frames()).shape == (64, 64, 3)


def test_a_crop_without_its_description_does_not_count(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    """Killed before the last step: the crop is made again."""
    prepare(clip, studio_corpus, tmp_path)
    (tmp_path / f"{clip.name}.json").unlink()
    assert not has_crop(tmp_path, clip.name)
    assert prepare(clip, studio_corpus, tmp_path) == CropResult(clip.clip_id, 30, kept=False)


def test_half_a_description_is_no_description(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    prepare(clip, studio_corpus, tmp_path)
    path = tmp_path / f"{clip.name}.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(CorruptFileError, match="crops step"):
        load_crop(tmp_path, clip.name)
    assert prepare(clip, studio_corpus, tmp_path) == CropResult(clip.clip_id, 30, kept=False)


class Blinking:
    """The truth, with the face out of sight for some frames."""

    name, trembles = "blinking", False

    def __init__(self, missing: slice) -> None:
        self.missing = missing

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        track = TruthTracker().track(frames, clip, corpus_root)
        track.landmarks[self.missing] = np.nan
        track.faces[self.missing] = 0
        return track

    def close(self) -> None:
        pass


def test_parts_of_frames_are_what_whole_frames_have_there(write_clip: WriteClip, tmp_path: Path) -> None:
    """Crops cut from parts are those cut from whole frames, at any scale and place, over the border and beside it."""
    path = write_clip(tmp_path / "clip.mp4", frames=40, height=150, width=202)
    rng = np.random.default_rng(0)
    z = np.exp(rng.uniform(-2, 1.2, 40) + 1j * rng.uniform(-0.6, 0.6, 40))
    middle = rng.uniform(-60, 260, 40) + 1j * rng.uniform(-60, 210, 40)
    shift = 16 + 16j - z * middle
    rows = [z.real, -z.imag, shift.real, z.imag, z.real, shift.imag]
    transforms = np.stack(rows, axis=-1).reshape(-1, 2, 3)
    boxes = [None, *source_boxes(transforms, 32)[1:]]
    wholes, unlike = list(open_video(path).frames()), 0
    parts = open_video(path).parts(boxes)
    next(parts)
    for index, part in enumerate(parts, 1):
        unlike += int((part != wholes[index]).any())
        expected = warp(wholes[index], transforms[index], 32)
        np.testing.assert_array_equal(warp(part, transforms[index], 32), expected)
    assert index == 39 and unlike > 20


def test_gaps_are_bridged_or_cut(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"quality": SETTINGS.quality.model_copy(update={"minimum_frames": 10})})
    bridged = prepare_clip(clip, studio_corpus, tmp_path / "a", settings, Blinking(slice(5, 12)))
    assert isinstance(bridged, CropResult) and bridged.frames == 30
    cut = prepare_clip(clip, studio_corpus, tmp_path / "b", settings, Blinking(slice(3, 15)))
    assert isinstance(cut, CropResult) and cut.frames == 15
    crop, whole = load_crop(tmp_path / "b", clip.name), load_crop(tmp_path / "a", clip.name)
    assert crop.metadata["first_frame"] == 15
    np.testing.assert_array_equal(crop.audio, whole.audio[15 * 640 :])
    assert crop.mouth_opening is not None and whole.mouth_opening is not None
    np.testing.assert_array_equal(crop.mouth_opening, whole.mouth_opening[15:])


def test_each_bad_clip_is_a_row_with_its_reason(tmp_path: Path, make_face: MakeFace, write_clip: WriteClip) -> None:
    root = tmp_path / "corpus"
    folder = root / "test" / "u0000"
    folder.mkdir(parents=True)
    write_clip(folder / "mute.mp4", sound=False)
    write_clip(folder / "short.mp4", frames=3)
    write_clip(folder / "faceless.mp4")
    encode(np.full((30, 64, 80, 3), 90, dtype=np.uint8), np.zeros(30 * 640, dtype=np.int16), folder / "silent.mp4")
    tilted = make_face(30)[..., ::-1].copy()
    write_clip(folder / "tilted.mp4")
    write_clip(folder / "tiny.mp4")
    truths = {"short": make_face(3), "silent": make_face(30), "tilted": tilted, "tiny": make_face(30, unit=3.0)}
    truths["mute"] = make_face(30)
    for name, landmarks in truths.items():
        save_file({"landmarks": np.ascontiguousarray(landmarks)}, folder / f"{name}.truth.safetensors")
    rows = {}
    for clip in scan("studio", root).clips:
        row = prepare(clip, root, tmp_path / "out")
        assert isinstance(row, QuarantineRow), clip
        rows[clip.name] = row.reason
        assert not has_crop(tmp_path / "out", clip.name)
    assert rows["mute"] == "no sound"
    assert rows["short"].startswith("only 3 frames")
    assert "no truth beside it" in rows["faceless"]
    assert rows["silent"].startswith("the sound is silent")
    assert "tilted by 90 degrees" in rows["tilted"]
    assert "pixels high" in rows["tiny"]


def test_a_clip_that_changed_on_disk_is_a_row(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    path = studio_corpus / clip.path
    path.write_bytes(path.read_bytes()[:1500])
    row = prepare(clip, studio_corpus, tmp_path)
    assert isinstance(row, QuarantineRow) and clip.path in row.file and row.remedy
    path.unlink()
    assert isinstance(prepare(clip, studio_corpus, tmp_path), QuarantineRow)


class Surprised:
    """A tracker that meets what no one foresaw."""

    name, trembles = "surprised", False

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        raise ZeroDivisionError("division by zero")

    def close(self) -> None:
        pass


def test_surprises_are_rows_too(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    row = prepare_clip(clip, studio_corpus, tmp_path, SETTINGS, Surprised())
    assert isinstance(row, QuarantineRow) and "ZeroDivisionError" in row.reason


def test_an_output_that_cannot_be_written_stops_with_a_remedy(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(PrivFedTalkError, match="cannot be written"):
        prepare(clip, studio_corpus, tmp_path / "out")


def test_metadata_is_json_people_can_read(clip: Clip, studio_corpus: Path, tmp_path: Path) -> None:
    prepare(clip, studio_corpus, tmp_path)
    stored = json.loads((tmp_path / f"{clip.name}.json").read_text())
    assert stored["quality"]["frames"] == 30 and stored["fps"] == 25 and stored["size"] == 128
    left, top, right, bottom = stored["mouth_box"]
    mouth = load_crop(tmp_path, clip.name).landmarks[:, MOUTH]
    assert ((mouth >= [left, top]) & (mouth <= [right, bottom])).all() and 0 <= left < right <= 128
