"""A recording becomes crops of its pieces in one pass; they are kept, made again and removed together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from preparation.corpora.clip import Clip
from preparation.corpora.manifest import scan
from preparation.crops import footage as footage_module
from preparation.crops.crop import CropResult, forget_crop, has_crop, load_crop, prepare_clip
from preparation.crops.cutting import CutPlan
from preparation.crops.pieces import crop_names, read_pieces, recorded_clips
from preparation.faces.track import Seen, Track
from preparation.faces.truth_tracker import TruthTracker
from preparation.media.sound import open_sound
from preparation.media.track.frames import Frame, Picture
from preparation.quarantine import QuarantineRow
from preparation.settings import CropSettings, FaceSettings, PreparationSettings, QualitySettings
from tests.preparation.conftest import draw_clip, hiss

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"),
    crops=CropSettings(size=32),
    quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0),
)
PLAN = CutPlan(30, 90)
FRAMES = 260


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording of 10.4 s whose voice is silent from 4 to 8 s."""
    root = tmp_path_factory.mktemp("recordings")
    sound = hiss(FRAMES / 25, 0)
    sound[4 * 16_000 : 8 * 16_000] = 0
    draw_clip(root / "trainval" / "c0000" / "talk.mp4", FRAMES, sound)
    return root


@pytest.fixture
def clip(root: Path) -> Clip:
    return scan("studio", root).clips[0]


class Away(TruthTracker):
    """The truth, with the face out of sight for some frames."""

    def __init__(self, *missing: slice) -> None:
        super().__init__()
        self.missing = missing

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        track = super().track(frames, clip, corpus_root)
        for each in self.missing:
            track.landmarks[each], track.faces[each] = np.nan, 0
        return track


def prepare(
    clip: Clip,
    root: Path,
    folder: Path,
    plan: CutPlan | None = PLAN,
    tracker: TruthTracker | None = None,
    settings: PreparationSettings = SETTINGS,
) -> CropResult | QuarantineRow:
    return prepare_clip(clip, root, folder, settings, tracker or TruthTracker(), plan=plan)


def names_in(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.iterdir() if path.is_file()}


def test_the_pieces_are_the_recording(clip: Clip, root: Path, tmp_path: Path) -> None:
    result = prepare(clip, root, tmp_path)
    assert isinstance(result, CropResult) and result.crops >= 2
    record = read_pieces(tmp_path, "talk")
    assert record is not None and crop_names(tmp_path, "talk") == [piece.name for piece in record.pieces]
    assert crop_names(tmp_path, "other") == ["other"] and recorded_clips(tmp_path) == ["talk"]
    whole = open_sound(root / clip.path).in_step()
    prepare(clip, root, tmp_path / "whole", plan=None)
    alone = load_crop(tmp_path / "whole", "talk")
    assert not (tmp_path / "whole" / "pieces").exists() and "recording" not in alone.metadata
    for number, piece in enumerate(record.pieces):
        crop, frames = load_crop(tmp_path, piece.name), slice(piece.first_frame, piece.stop)
        assert piece.name == f"talk@{number:03d}" and 30 <= piece.frames <= 90
        assert len(list(crop.frames())) == piece.frames == len(crop.landmarks) == crop.metadata["frames"]
        assert (crop.metadata["clip_id"], crop.metadata["recording"]) == (f"c0000/{piece.name}", "c0000/talk")
        assert crop.metadata["first_frame"] == piece.first_frame
        np.testing.assert_array_equal(crop.audio, whole[piece.first_frame * 640 : piece.stop * 640])
        assert crop.mouth_opening is not None and alone.mouth_opening is not None
        np.testing.assert_array_equal(crop.mouth_opening, alone.mouth_opening[frames])
        # Each crop is steadied by its own frames alone: the same place to a fraction of a pixel.
        np.testing.assert_allclose(crop.landmarks, alone.landmarks[frames], atol=1.0)


def test_silent_pieces_are_rows_with_their_time(clip: Clip, root: Path, tmp_path: Path) -> None:
    result = prepare(clip, root, tmp_path, CutPlan(25, 50))
    assert isinstance(result, CropResult) and result.rows
    record = read_pieces(tmp_path, "talk")
    assert record is not None and len(record.refused) == len(result.rows)
    for row in result.rows:
        time, reason = row.reason.split(" s: ")
        start, stop = map(float, time.split("–"))
        assert row.file == clip.path and row.step == "pieces" and reason.startswith("the sound is silent")
        assert start >= 3.9 and stop <= 8.1
    silent = sum(float(row.reason.split(" s: ")[0].split("–")[1]) - float(row.reason.split("–")[0])
                 for row in result.rows)  # fmt: skip
    assert silent + result.frames / 25 == pytest.approx(FRAMES / 25, abs=0.1 * len(result.rows))
    assert names_in(tmp_path) == {piece.name for piece in record.pieces}
    assert [piece.name for piece in record.pieces] == [f"talk@{number:03d}" for number in range(len(record.pieces))]


def test_every_stretch_with_a_face_is_kept(clip: Clip, root: Path, tmp_path: Path) -> None:
    away = Away(slice(80, 120), slice(150, 165))
    alone = prepare(clip, root, tmp_path / "longest", plan=None, tracker=away)
    assert isinstance(alone, CropResult) and alone.frames == 95
    result = prepare(clip, root, tmp_path, CutPlan(30, 250), tracker=away)
    record = read_pieces(tmp_path, "talk")
    assert isinstance(result, CropResult) and record is not None
    frames = [(piece.first_frame, piece.stop) for piece in record.pieces]
    assert frames[0] == (0, 80) and frames[-1] == (165, 260)
    assert all(load_crop(tmp_path, piece.name).metadata["quality"]["face_rate"] == 1 for piece in record.pieces)


def test_a_short_recording_of_one_shot_keeps_its_name(clip: Clip, root: Path, tmp_path: Path) -> None:
    result = prepare(clip, root, tmp_path, CutPlan(130, FRAMES))
    assert result == CropResult(clip.clip_id, FRAMES, kept=False)
    assert names_in(tmp_path) == {"talk"} and not (tmp_path / "pieces").exists()
    prepare(clip, root, tmp_path / "plain", plan=None)
    for suffix in ("mp4", "safetensors"):
        assert (tmp_path / f"talk.{suffix}").read_bytes() == (tmp_path / "plain" / f"talk.{suffix}").read_bytes()


def test_pieces_are_kept_until_something_changes(clip: Clip, root: Path, tmp_path: Path) -> None:
    made = prepare(clip, root, tmp_path, CutPlan(25, 50))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = prepare(clip, root, tmp_path, CutPlan(25, 50))
    assert isinstance(made, CropResult) and isinstance(again, CropResult)
    assert again.kept and (again.frames, again.crops, again.rows) == (made.frames, made.crops, made.rows)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times

    # Other lengths: no piece of before is left, however many there were.
    fewer = prepare(clip, root, tmp_path, CutPlan(60, 120))
    assert isinstance(fewer, CropResult) and not fewer.kept and fewer.crops < made.crops
    assert names_in(tmp_path) == set(crop_names(tmp_path, "talk"))
    # A piece that was removed as damaged is made again, with its recording.
    forget_crop(tmp_path, "talk@001")
    assert not has_crop(tmp_path, "talk@001") and has_crop(tmp_path, "talk@000")
    mended = prepare(clip, root, tmp_path, CutPlan(60, 120))
    assert isinstance(mended, CropResult) and not mended.kept and has_crop(tmp_path, "talk@001")
    # Uncut, the recording is one crop again.
    assert prepare(clip, root, tmp_path, None) == CropResult(clip.clip_id, FRAMES, kept=False)
    assert names_in(tmp_path) == {"talk"} and crop_names(tmp_path, "talk") == ["talk"]


def test_pieces_of_a_killed_process_do_not_count_and_do_not_stay(clip: Clip, root: Path, tmp_path: Path) -> None:
    prepare(clip, root, tmp_path)
    (tmp_path / "pieces" / "talk.json").unlink()
    assert crop_names(tmp_path, "talk") == ["talk"] and not has_crop(tmp_path, "talk")
    result = prepare(clip, root, tmp_path, CutPlan(60, 240))
    assert isinstance(result, CropResult) and not result.kept
    assert names_in(tmp_path) == set(crop_names(tmp_path, "talk"))
    (tmp_path / "pieces" / "talk.json").write_text("{")
    assert crop_names(tmp_path, "talk") == ["talk"]


def test_a_recording_without_a_usable_piece_is_one_row(clip: Clip, root: Path, tmp_path: Path) -> None:
    strict = SETTINGS.model_copy(update={"quality": QualitySettings(minimum_face_pixels=500, minimum_sharpness=0)})
    for _ in range(2):  # the second time from the record
        row = prepare(clip, root, tmp_path, settings=strict)
        assert isinstance(row, QuarantineRow) and row.step == "quality" and "pixels high" in row.reason
    assert names_in(tmp_path) == set()
    row = prepare(clip, root, tmp_path, tracker=Away(slice(0, FRAMES)))
    assert isinstance(row, QuarantineRow) and row.reason == "no face found"


@pytest.mark.parametrize("damaged", [None, "talk@000", "talk@001"])
def test_forgetting_a_recording_removes_all_of_it(clip: Clip, root: Path, tmp_path: Path, damaged: str | None) -> None:
    """Also where a piece was removed alone before, as the shards step does with a damaged one."""
    prepare(clip, root, tmp_path, CutPlan(25, 50))
    assert len(crop_names(tmp_path, "talk")) >= 3
    if damaged is not None:
        forget_crop(tmp_path, damaged)
    forget_crop(tmp_path, "talk")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("limit", [0, 10**6])
def test_pieces_are_the_same_however_much_is_held(
    clip: Clip, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    plan = CutPlan(25, 50, gap=20, borders=(0.5, 0.8))
    prepare(clip, root, tmp_path / "held", plan)
    monkeypatch.setattr(footage_module, "HELD_BYTES", limit)
    prepare(clip, root, tmp_path / "streamed", plan)
    names = crop_names(tmp_path / "held", "talk")
    assert len(names) >= 3 and names == crop_names(tmp_path / "streamed", "talk")
    for name in names:
        held, streamed = (tmp_path / kind / f"{name}.mp4" for kind in ("held", "streamed"))
        assert held.read_bytes() == streamed.read_bytes()


def test_the_record_is_no_description_of_a_crop(clip: Clip, root: Path, tmp_path: Path) -> None:
    prepare(clip, root, tmp_path)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert sorted(found) == crop_names(tmp_path, "talk") and all("frames" in each for each in found.values())
