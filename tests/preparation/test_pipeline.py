from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.errors import MissingWeightError, PrivFedTalkError
from common.folders import RunFolder
from common.weights import registry as weights
from preparation.clients.roles import load_clients
from preparation.crops.crop import load_crop
from preparation.pipeline import (
    PreparationReport,
    build_all_shards,
    nothing_usable,
    prepare_clients,
    prepare_folder,
    register_corpus,
)
from preparation.quarantine import load_quarantine
from preparation.settings import (
    ClientSettings,
    CorpusSettings,
    FaceSettings,
    PreparationSettings,
    QualitySettings,
    ShardSettings,
    SpeakerRule,
)
from preparation.settings.samples import SampleSettings
from preparation.shards.samples import batch_of, build_shards, parts_of, sample_key
from preparation.shards.store import Sample, load_index, read_shards
from preparation.shards.thumbnails import thumbnail_sheet
from preparation.speech.features import speech_features
from tests.preparation.conftest import WriteClip, draw_clip

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)


def encode(frames: np.ndarray) -> np.ndarray:
    """Means of 8x8 blocks and a constant channel: an f8 code that is easy to check, float32 [T, 4, h, w]."""
    count, height, width, _ = frames.shape
    blocks = frames.reshape(count, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    return np.concatenate([blocks / 127.5 - 1, np.ones_like(blocks[:, :1])], axis=1).astype(np.float32)


def prepare(
    root: Path, run: RunFolder, workers: int = 1, settings: PreparationSettings = SETTINGS
) -> PreparationReport:
    return prepare_folder("studio", root, run, settings, workers, encode, encoder_id="blocks")


def test_from_corpus_to_samples(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    report = prepare(studio_corpus, run)
    assert (report.clips, report.crops.made, report.shards.samples, report.quarantine) == (18, 18, 18, [])
    assert report.shards.clients == 6 and report.shards.frames == 18 * 30
    table = load_clients(run.clients_table)
    for client, entry in table.items():
        samples = {sample.clip_id: sample for sample in read_shards(run.client(client))}
        assert set(samples) == set(entry.clips())
        for clip_id, sample in samples.items():
            crop = load_crop(run.crops(client), clip_id.split("/")[1])
            assert sample.key == sample_key(clip_id) and sample.split == entry.split_of(clip_id)
            frames = np.stack(list(crop.frames()))
            np.testing.assert_array_equal(sample.latents, encode(frames).astype(np.float16))
            np.testing.assert_array_equal(sample.speech, speech_features(crop.audio, 30).astype(np.float16))
            np.testing.assert_array_equal(sample.landmarks, crop.landmarks)
            np.testing.assert_array_equal(sample.mouth_opening, crop.mouth_opening)
            assert sample.motion is not None and sample.motion.shape == (30, 12)
            other = sample.metadata["reference_clip"]
            assert other != clip_id and other.split("/")[0] == client
            assert other in entry.splits["train" if entry.splits["train"] else sample.split]
            source = load_crop(run.crops(client), other.split("/")[1])
            picture = list(source.frames())[sample.metadata["reference_frame"]]
            np.testing.assert_array_equal(sample.reference, picture)
            np.testing.assert_array_equal(sample.reference_latent, encode(picture[None])[0].astype(np.float16))


@pytest.mark.slow(minutes=0.1)
def test_a_second_run_keeps_everything_and_five_new_clips_make_five(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(studio_corpus, run)
    index = (run.shards("c0000") / "index.json").read_bytes()
    again = prepare(studio_corpus, run)
    assert (again.crops.made, again.crops.kept, again.shards.kept_clients) == (0, 18, 6)
    for number in (1, 2):
        draw_clip(studio_corpus / "pretrain" / "p0002" / f"{number:05d}.mp4")
    grown = prepare(studio_corpus, run)
    assert (grown.crops.made, grown.crops.kept) == (2, 18)
    assert (run.shards("c0000") / "index.json").read_bytes() == index


def test_what_depends_on_a_change_is_redone_and_nothing_else(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    assert not build_shards(run, "c0000", encode, SETTINGS, "one").kept
    assert build_shards(run, "c0000", encode, SETTINGS, "one").kept
    assert not build_shards(run, "c0000", encode, SETTINGS, "another autoencoder").kept
    other_split = SETTINGS.model_copy(update={"clients": ClientSettings(seed=7)})
    register_corpus("studio", studio_corpus, run, other_split)
    assert prepare_clients(run, studio_corpus, other_split).made == 0


def test_two_workers_make_what_one_makes(studio_corpus: Path, tmp_path: Path) -> None:
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    prepare(studio_corpus, one)
    prepare(studio_corpus, two, workers=2)
    made = sorted(path.relative_to(one.root) for path in one.root.rglob("*.tar"))
    assert len(made) == 6
    for path in [*made, *(path.with_name("index.json") for path in made)]:
        assert (one.root / path).read_bytes() == (two.root / path).read_bytes()


@pytest.mark.slow(minutes=0.2)
def test_two_workers_write_the_shards_that_one_writes_with_a_real_network(studio_corpus: Path, tmp_path: Path) -> None:
    import torch

    from training.model.autoencoders.small import SmallVae
    from training.settings import VaeSettings

    threads = torch.get_num_threads()
    torch.manual_seed(0)
    autoencoder = SmallVae(VaeSettings(widths=(16, 32), blocks=1)).eval().requires_grad_(False)
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    written = []
    for workers in (1, 2, 3):
        counts = build_all_shards(run, autoencoder.encode_frames, SETTINGS, f"{workers} workers", workers=workers)
        assert (counts.samples, counts.kept_clients) == (18, 0)
        written.append([path.read_bytes() for path in sorted(run.root.rglob("*.tar"))])
    assert written[0] == written[1] == written[2]
    assert torch.get_num_threads() == threads


def test_an_encoder_that_fails_in_a_thread_ends_the_step(studio_corpus: Path, tmp_path: Path) -> None:
    def broken(frames: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    with pytest.raises(RuntimeError, match="out of memory"):
        build_all_shards(run, broken, SETTINGS, workers=2)
    assert not list(run.root.rglob("*.tar"))


def test_bad_clips_are_rows_and_the_rest_goes_on(studio_corpus: Path, tmp_path: Path, write_clip: WriteClip) -> None:
    run = RunFolder(tmp_path / "run")
    folder = studio_corpus / "trainval" / "c0000"
    (folder / "00005.mp4").touch()
    write_clip(folder / "00006.mp4")
    (studio_corpus / "trainval/c0001/00001.truth.safetensors").write_bytes(b"rotten")
    report = prepare(studio_corpus, run)
    rows = {row.file: row for row in report.quarantine}
    assert set(rows) == {"trainval/c0000/00005.mp4", "trainval/c0000/00006.mp4", "trainval/c0001/00001.mp4"}
    assert {rows[file].step for file in rows} == {"manifest", "crops"}
    assert report.shards.samples == 17
    # Mended, the rows go.
    (folder / "00005.mp4").unlink()
    (folder / "00006.mp4").unlink()
    shutil.copy(folder / "00001.truth.safetensors", studio_corpus / "trainval/c0001/00001.truth.safetensors")
    assert prepare(studio_corpus, run).quarantine == [] == load_quarantine(run.quarantine)


def test_a_damaged_crop_is_a_row_of_the_shards_step(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    (run.crops("c0000") / "00002.safetensors").write_bytes(b"rotten")
    counts = build_all_shards(run, encode, SETTINGS)
    (row,) = load_quarantine(run.quarantine)
    assert row.step == "shards" and "c0000/00002" in row.file
    assert counts.samples == 17


def test_a_crop_whose_video_was_damaged_is_a_row_and_is_made_again(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    video = run.crops("c0000") / "00002.mp4"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    counts = build_all_shards(run, encode, SETTINGS)
    (row,) = load_quarantine(run.quarantine)
    assert row.step == "shards" and row.file == "c0000/00002" and "crops" in row.remedy
    assert counts.samples == 17
    again = prepare(studio_corpus, run)
    assert (again.crops.made, again.shards.samples, again.quarantine) == (1, 18, [])


@pytest.mark.slow(minutes=0.1)
def test_thumbnails_show_every_client(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(studio_corpus, run)
    sheet = thumbnail_sheet(run, rows=8, columns=5, size=32)
    assert sheet.shape == (6 * 32, 5 * 32, 3) and sheet.dtype == np.uint8
    assert thumbnail_sheet(run, rows=2, columns=5, size=32).shape == (64, 160, 3)
    assert sheet.std() > 10


def test_empty_and_absent_corpora_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="does not exist"):
        prepare_folder("folder", tmp_path / "nowhere", tmp_path / "run", None, 1, encode)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrivFedTalkError, match="no readable clip"):
        prepare_folder("folder", tmp_path / "empty", tmp_path / "run", None, 1, encode)


def test_real_clips_of_two_kinds(
    clips_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPEG-1 and LRS3 clips, a flat folder with awkward names: all become samples with MediaPipe's landmarks."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    root = tmp_path / "my clips"
    (root / "s2").mkdir(parents=True)
    shutil.copy(clips_dir / "grid/pwij3p.mpg", root / "s2" / "one.mpg")
    shutil.copy(clips_dir / "grid/id2_vcd_swwp2s.mpg", root / "s2" / "two ü.mpg")
    shutil.copy(clips_dir / "grid/sbia1a.mpg", root / "alone.avi")
    settings = PreparationSettings(faces=FaceSettings(every=4), samples=SampleSettings(cut="never"))
    run = RunFolder(tmp_path / "run")
    report = prepare_folder("folder", root, run, settings, 1, encode)
    assert report.quarantine == [] and report.crops.tracker == "mediapipe"
    assert report.shards.samples == 3
    (lone,) = read_shards(run.client("alone"))
    # Of 75 frames the last fifth is for the reference, with a tenth between.
    assert len(lone.latents) == 53 and lone.metadata["reference_frame"] >= 60
    assert all(sample.mouth_opening is None for sample in read_shards(run.client("s2")))


@pytest.mark.slow
def test_all_real_clips(clips_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    uncut = SampleSettings(cut="never")
    settings = PreparationSettings(corpus=CorpusSettings(speaker_rule=SpeakerRule.STEM), samples=uncut)
    report = prepare_folder("folder", clips_dir, tmp_path / "run", settings, 2, encode)
    assert report.clips == 21
    assert report.shards.samples + len(report.quarantine) == 21
    assert report.shards.samples >= 19


def test_a_corpus_of_which_nothing_is_usable_says_why(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    strict = SETTINGS.model_copy(update={"quality": QualitySettings(minimum_frames=500)})
    register_corpus("studio", studio_corpus, run, strict)
    counts = prepare_clients(run, studio_corpus, strict)
    assert counts.usable == 0 and counts.quarantined == 18
    error = nothing_usable(run)
    assert "18 of 18" in str(error) and error.remedy


def test_a_long_clip_becomes_several_samples_that_are_the_whole(studio_corpus: Path, tmp_path: Path) -> None:
    """Longest 1 s: each clip of 30 frames gives two samples of 15, with the very values of one."""
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    prepare(studio_corpus, whole, settings=SETTINGS.model_copy(update={"shards": ShardSettings(cepstra=True)}))
    short = SETTINGS.model_copy(update={"shards": ShardSettings(longest_seconds=1, cepstra=True)})
    report = prepare(studio_corpus, cut, settings=short)
    assert (report.crops.usable, report.shards.samples, report.shards.frames) == (18, 36, 18 * 30)
    table = load_clients(cut.clients_table)
    for client, entry in table.items():
        index = load_index(cut.client(client))
        assert index.clips == {split: len(ids) for split, ids in entry.splits.items() if ids}
        assert index.splits == {split: 2 * count for split, count in index.clips.items()}
        parts: dict[str, list[Sample]] = {}
        for sample in read_shards(cut.client(client)):
            parts.setdefault(sample.clip_id, []).append(sample)
        for one in read_shards(whole.client(client)):
            several = parts.pop(one.clip_id)
            assert [(part.first_frame, part.split) for part in several] == [(0, one.split), (15, one.split)]
            for name in ("latents", "speech", "landmarks", "mouth_opening", "motion"):
                together = np.concatenate([getattr(part, name) for part in several])
                np.testing.assert_array_equal(together, getattr(one, name))
            assert one.cepstra is not None and one.cepstra.shape == (30, 4, 13)
            heard = np.concatenate([part.cepstra for part in several if part.cepstra is not None])
            np.testing.assert_allclose(heard, one.cepstra, rtol=2e-3, atol=1e-3)  # half precision
            for part in several:
                np.testing.assert_array_equal(part.reference, one.reference)
                np.testing.assert_array_equal(part.reference_latent, one.reference_latent)
        assert not parts


@pytest.mark.parametrize(("frames", "longest"), [(0, 5), (1, 5), (5, 5), (6, 5), (15000, 1500), (15001, 1500), (7, 3)])
def test_parts_are_even_and_none_is_too_long(frames: int, longest: int) -> None:
    parts = parts_of(frames, longest)
    lengths = [part.stop - part.start for part in parts]
    assert [frame for part in parts for frame in range(part.start, part.stop)] == list(range(frames))
    assert max(lengths) <= longest and max(lengths) - min(lengths) <= 1
    assert len(parts) == max(1, math.ceil(frames / longest))


def test_large_pictures_are_encoded_fewer_at_a_time() -> None:
    assert [batch_of(64, size) for size in (32, 128, 256, 512, 1024)] == [64, 64, 16, 4, 1]
    assert batch_of(1, 512) == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("tracker", "file"), [("mediapipe", r"face_landmarker\.task"), ("face_alignment", r"blazeface\.pth")]
)
def test_a_tracker_without_its_weights_stops_the_step_before_any_clip(
    studio_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, file: str, workers: int
) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run, settings = (
        RunFolder(tmp_path / "run"),
        PreparationSettings(faces=FaceSettings.model_validate({"tracker": tracker})),
    )
    register_corpus("studio", studio_corpus, run, settings)
    with pytest.raises(MissingWeightError, match=file):
        prepare_clients(run, studio_corpus, settings, workers=workers)
    assert load_quarantine(run.quarantine) == [] and not list(run.root.rglob("*.safetensors"))
