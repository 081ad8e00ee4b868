"""People with long recordings, from the corpus to shards: every step knows their pieces."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.preparation.corpus import disjoint
from assets.preparation.facts import crop_facts, crop_facts_of, placed_clips
from common.files import MACHINE
from common.folders import RunFolder
from common.weights import registry as weights
from preparation.clients.dealing import deal_run
from preparation.clients.removal import Absent, absent_names, settle_absent
from preparation.clients.report import report_clients
from preparation.clients.roles import SPLITS, load_clients, load_people, of_role, unit_of
from preparation.clients.timeline import close_neighbours, sample_clips
from preparation.corpora.clip import recording_of
from preparation.corpora.manifest import load_manifest
from preparation.corpora.twins import recordings_of
from preparation.crops.crop import has_crop, load_crop
from preparation.crops.cutting import loudness_levels
from preparation.crops.pieces import recorded_clips
from preparation.media.sound import open_sound
from preparation.pipeline import PreparationReport, build_all_shards, prepare_clients, prepare_folder, register_corpus
from preparation.quarantine import load_quarantine
from preparation.settings import (
    ClientSettings,
    CorpusSettings,
    CropSettings,
    FaceSettings,
    PartitionSettings,
    PreparationSettings,
    QualitySettings,
)
from preparation.settings.samples import SampleSettings
from preparation.shards.store import load_index, read_shards
from preparation.shards.thumbnails import thumbnail_sheet
from tests.preparation.conftest import draw_clip
from training.adapters.membership import pictures_of

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"),
    crops=CropSettings(size=32),
    quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0),
    samples=SampleSettings(cut="always", longest_seconds=4, shortest_seconds=1.5),
)
RECORDINGS = {
    "pretrain/pia/long": 300, "pretrain/pia/short": 60, "trainval/one/talk": 700, "trainval/two/first": 260,
    "trainval/two/second": 150, "trainval/many/00001": 150, "trainval/many/00002": 30, "trainval/many/00003": 40,
    "trainval/brief/00001": 60, "test/uma/talk": 260,
}  # fmt: skip
GAP = 25


def latents(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:, None, ::8, ::8, 0] / 255, 4, axis=1).astype(np.float32)


def prepare(root: Path, run: RunFolder, settings: PreparationSettings = SETTINGS) -> PreparationReport:
    return prepare_folder("studio", root, run, settings, 1, latents, "blocks")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for name, frames in RECORDINGS.items():
        draw_clip(root / f"{name}.mp4", frames)
    return root


@pytest.fixture(scope="module")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("run") / "run")
    report = prepare(root, run)
    assert report.quarantine == [] and report.crops.made == len(RECORDINGS)
    assert report.crops.crops == report.shards.samples > 20
    return run


@pytest.fixture
def run(prepared: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(prepared.root, tmp_path / "run")))


def contents(run: RunFolder) -> dict[str, bytes]:
    places = ("clients/*/crops/**/*", "clients/*/shards/*", "*.json")
    return {str(path): path.read_bytes() for place in places for path in run.root.glob(place) if path.is_file()}


@pytest.mark.slow(minutes=0.1)
def test_everybody_with_a_long_recording_has_all_splits(prepared: RunFolder) -> None:
    table = load_clients(prepared.clients_table)
    for name in ("one", "two"):
        assert all(table[name].splits[split] for split in SPLITS) and table[name].one_video
    assert [len({*map(recording_of, table["many"].splits[split])}) for split in SPLITS] == [1, 1, 1]
    assert not table["many"].one_video and len(table["many"].clips()) == 4
    assert table["brief"].splits == {"train": ["brief/00001"], "validation": [], "test": []}
    # Held-out people stay whole.
    assert {split for split in SPLITS if table["uma"].splits[split]} == {"test"} and len(table["uma"].clips()) >= 3
    assert {split for split in SPLITS if table["pia"].splits[split]} == {"train"} and len(table["pia"].clips()) >= 4
    # A client's own split says nothing of others: both tables have the same public people.
    assert {name: entry for name, entry in load_people(prepared).items() if entry.role == "public"} == {
        name: entry for name, entry in table.items() if entry.role == "public"
    }
    assert set(load_people(prepared)["one"].clips()) == set(table["one"].clips())
    assert unit_of(table) == "person"


def test_neighbours_never_stand_on_two_sides(prepared: RunFolder) -> None:
    clips = load_manifest(prepared.manifest)
    table, places = load_clients(prepared.clients_table), sample_clips(prepared, clips).places
    assert close_neighbours(table, places, GAP) == []
    assert disjoint(table).passed and disjoint(load_people(prepared), recordings_of(clips)).passed
    first, last = table["one"].splits["train"], table["one"].splits["test"]
    moved = {"one": table["one"].__class__("client", "one", {"train": [*first[:-1], last[0]], "validation": [first[-1]],
                                                            "test": last[1:]})}  # fmt: skip
    assert close_neighbours(moved, places, GAP)


def test_samples_know_their_recording_and_their_time(prepared: RunFolder) -> None:
    for name in ("one", "two", "pia"):
        samples = {sample.clip_id: sample for sample in read_shards(prepared.client(name))}
        assert set(samples) == set(load_clients(prepared.clients_table)[name].clips())
        for clip_id, sample in samples.items():
            crop = load_crop(prepared.crops_of(clip_id), clip_id.rpartition("/")[2])
            assert sample.metadata["recording"] == recording_of(clip_id)
            assert sample.metadata["recording_frame"] == crop.metadata["first_frame"]
            assert len(sample.latents) == crop.metadata["frames"] and sample.first_frame == 0


def test_a_reference_is_no_frame_of_its_sample_and_never_held_out_for_training(prepared: RunFolder) -> None:
    table = load_clients(prepared.clients_table)
    places = sample_clips(prepared, load_manifest(prepared.manifest)).places
    for name in of_role(table, "client"):
        for sample in read_shards(prepared.client(name)):
            other, frame = sample.metadata["reference_clip"], sample.metadata["reference_frame"]
            if other == sample.clip_id:
                assert frame >= len(sample.latents) and name == "brief", "only a lone sample lends its own end"
                continue
            start = places.get(other, slice(0)).start + frame
            own = places.get(sample.clip_id, slice(0))
            assert recording_of(other) != recording_of(sample.clip_id) or not own.start <= start < own.stop
            assert table[name].split_of(other) == "train" or sample.split != "train"


def test_a_second_run_keeps_everything_and_steps_alone_change_nothing(
    run: RunFolder, root: Path, prepared: RunFolder
) -> None:
    before = contents(run)
    report = prepare(root, run)
    assert (report.crops.made, report.crops.kept) == (0, len(RECORDINGS)) and report.shards.kept_clients == 6
    assert contents(run) == before
    for only in (["one"], ["uma", "many"], None):
        assert prepare_clients(run, root, SETTINGS, only=only).made == 0
        deal_run(run, SETTINGS)
        build_all_shards(run, latents, SETTINGS, "blocks", only=only)
    assert contents(run) == before
    assert sorted(before) == sorted(str(run.root / Path(p).relative_to(prepared.root)) for p in contents(prepared))


@pytest.mark.slow(minutes=0.1)
def test_the_same_corpus_gives_the_same_run(root: Path, prepared: RunFolder, tmp_path: Path) -> None:
    again = RunFolder(tmp_path / "again")
    prepare(root, again)
    assert load_clients(again.clients_table) == load_clients(prepared.clients_table)
    shards = sorted(path.relative_to(prepared.root) for path in prepared.root.glob("clients/*/shards/*.tar"))
    assert all((again.root / path).read_bytes() == (prepared.root / path).read_bytes() for path in shards)


def test_a_new_recording_changes_how_the_others_are_cut(run: RunFolder, root: Path, tmp_path: Path) -> None:
    """With a third recording a client is split by recordings, and the gaps of the others are gone."""
    corpus = Path(shutil.copytree(root, tmp_path / "corpus"))
    draw_clip(corpus / "trainval" / "two" / "third.mp4", 150)
    report = prepare(corpus, run)
    two = load_clients(run.clients_table)["two"]
    assert report.crops.made == 3 and not two.one_video
    assert [len({*map(recording_of, two.splits[split])}) for split in SPLITS] == [1, 1, 1]
    frames = sum(piece.stop - piece.start for name, piece in
                 sample_clips(run, load_manifest(run.manifest)).places.items() if name.startswith("two/"))  # fmt: skip
    assert frames == 260 + 150 + 150


@pytest.mark.slow(minutes=0.2)
def test_uncut_again_everything_is_as_without_pieces(run: RunFolder, root: Path, tmp_path: Path) -> None:
    never = SETTINGS.model_copy(update={"samples": SampleSettings(cut="never")})
    prepare(root, run, never)
    fresh = RunFolder(tmp_path / "fresh")
    prepare(root, fresh, never)
    assert not list(run.root.glob("clients/*/crops/*@*"))
    assert load_clients(run.clients_table) == load_clients(fresh.clients_table)
    one = {str(path.relative_to(run.root)) for path in run.root.glob("clients/*/shards/*")}
    assert one == {str(path.relative_to(fresh.root)) for path in fresh.root.glob("clients/*/shards/*")}
    auto = RunFolder(tmp_path / "auto")
    prepare(root, auto, SETTINGS.model_copy(update={"samples": SampleSettings()}))
    assert len(contents(auto)) == len(contents(fresh)), "a rendered corpus is not cut by itself"
    assert [path.read_bytes() for path in sorted(auto.root.glob("clients/*/shards/*.tar"))] == [
        path.read_bytes() for path in sorted(fresh.root.glob("clients/*/shards/*.tar"))
    ]


def test_a_damaged_piece_is_left_out_and_made_again(run: RunFolder, root: Path) -> None:
    damaged = load_clients(run.clients_table)["one"].splits["train"][1]
    crop = load_crop(run.crops("one"), damaged.rpartition("/")[2])
    shutil.copy(load_crop(run.crops("many"), "00002").video, crop.video)
    shutil.rmtree(run.shards("one"))
    build_all_shards(run, latents, SETTINGS, "blocks", only=["one"])
    (row,) = load_quarantine(run.quarantine)
    assert (row.file, row.step) == (damaged, "shards") and not has_crop(run.crops("one"), crop.name)
    assert prepare_clients(run, root, SETTINGS).made == 1
    deal_run(run, SETTINGS)
    build_all_shards(run, latents, SETTINGS, "blocks", only=["one"])
    assert load_quarantine(run.quarantine) == [] and has_crop(run.crops("one"), crop.name)


def test_refused_recordings_and_pieces_are_rows(root: Path, tmp_path: Path) -> None:
    """A silent recording of a client of three leaves two, which are then split by time."""
    corpus = Path(shutil.copytree(root, tmp_path / "corpus"))
    two, sound = corpus / "trainval" / "two", np.zeros(200 * 640, np.int16)
    draw_clip(two / "silent.mp4", 200, sound)
    half = np.random.default_rng(0).integers(-3000, 3000, 500 * 640).astype(np.int16)
    half[: 120 * 640] = 0
    draw_clip(two / "first.mp4", 500, half)
    run = RunFolder(tmp_path / "run")
    report = prepare(corpus, run)
    rows = [row for row in report.quarantine if row.step in ("quality", "pieces")]
    assert {row.file for row in rows} == {"trainval/two/silent.mp4", "trainval/two/first.mp4"}
    assert all(float(row.reason.partition("–")[0]) < 4.8 for row in rows if row.step == "pieces")
    entry, places = load_clients(run.clients_table)["two"], sample_clips(run, load_manifest(run.manifest)).places
    assert all(set(entry.splits[split]) - {"two/silent"} for split in SPLITS) and "two/silent" in entry.clips()
    assert close_neighbours({"two": entry}, places, GAP) == []
    left_out = [row for row in report.quarantine if row.step == "dealing"]
    own = {name for name in places if name.startswith("two/")}
    assert len(left_out) == len(own - set(entry.clips())) and all("split" in row.reason for row in left_out)


def test_what_was_made_of_a_withdrawn_recording_goes(
    run: RunFolder, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Path(shutil.copytree(root, tmp_path / "corpus"))
    (corpus / "trainval" / "two" / "first.mp4").unlink()
    shutil.rmtree(corpus / "trainval" / "one")
    forgetting = SETTINGS.model_copy(update={"corpus": CorpusSettings(forget_absent=True)})
    register_corpus("studio", corpus, RunFolder(Path(shutil.copytree(run.root, tmp_path / "kept"))), SETTINGS)
    assert "kept what was made of 2 clips" in capsys.readouterr().err
    prepare(corpus, run, forgetting)
    assert "removed what was made of 2 clips" in capsys.readouterr().err
    left = [str(path) for path in run.root.rglob("*") if "first" in path.name or "one" in path.parts[-4:]]
    assert left == [] and not run.client("one").exists() and recorded_clips(run.crops("two")) == ["second"]
    assert b"two/first" not in b"".join(contents(run).values())
    assert settle_absent(run, forget=True) == Absent(0, 0) and absent_names(run).clips == []


def test_reports_sheets_and_facts_count_pieces(run: RunFolder) -> None:
    facts = crop_facts(run)
    assert (facts.clips, facts.crops) == (len(RECORDINGS), len(sample_clips(run, load_manifest(run.manifest)).clips))
    assert facts.face_rate == 1 and facts.refused == 0
    both = crop_facts_of(run, placed_clips(run, {"0": ["one", "two"], "1": ["many"]}))
    assert (both["0"].clips, both["1"].clips) == (3, 3)
    assert both["0"].crops == sum(load_index(run.client(name)).samples for name in ("one", "two"))
    rows = {row.client: row for row in report_clients(run).clients}
    assert rows["one"].with_crops == rows["one"].clips and rows["one"].one_video
    assert rows["one"].seconds == pytest.approx(700 / 25 - 2, abs=0.1)
    assert thumbnail_sheet(run, 6, 2, size=32).any(axis=(1, 2)).all()


def test_revoking_names_the_videos_of_pieces(run: RunFolder) -> None:
    piece = load_clients(run.clients_table)["one"].splits["test"][0]
    folder = run.evaluation("fedavg") / "videos"
    folder.mkdir(parents=True)
    for name in (piece.replace("/", "_"), f"{piece.replace('/', '_')}@25", "ones_talk@000", "two_first@000"):
        (folder / f"{name}.mp4").touch()
    assert len(pictures_of(run, "one")) == 2


def test_simulated_clients_of_few_recordings_are_split_by_time(run: RunFolder) -> None:
    partition = PartitionSettings(by="dirichlet", clients=2, unit="video", alpha=100)
    table = deal_run(run, SETTINGS.model_copy(update={"partition": partition}))
    dealt = [table[name] for name in of_role(table, "client")]
    places = sample_clips(run, load_manifest(run.manifest)).places
    assert close_neighbours(table, places, GAP) == []
    owners: dict[str, set[str]] = {}
    for entry in dealt:
        for clip in entry.clips():
            owners.setdefault(recording_of(clip), set()).add(entry.speaker)
            assert entry.person_of(clip) == clip.partition("/")[0]
        assert set(entry.people) == set(entry.clips())
    assert all(len(names) == 1 for names in owners.values()) and len(owners) == 7
    one = next(entry for entry in dealt if "one/talk" in {*map(recording_of, entry.clips())})
    assert all(one.splits[split] for split in SPLITS)


@pytest.mark.slow
def test_people_with_one_real_recording_have_all_splits(
    fixtures_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    for person, name in {"anchor": "anchor_71s", "french": "french_50s", "walker": "outdoor_19s"}.items():
        (tmp_path / "corpus" / person).mkdir(parents=True)
        (tmp_path / "corpus" / person / "talk.mp4").symlink_to(fixtures_dir / "recordings" / f"{name}.mp4")
    settings = PreparationSettings(faces=FaceSettings(every=4), clients=ClientSettings(public_speaker_fraction=0))
    run = RunFolder(tmp_path / "run")
    report = prepare_folder("folder", tmp_path / "corpus", run, settings, 2, latents)
    table, places = load_clients(run.clients_table), sample_clips(run, load_manifest(run.manifest)).places
    assert len(table) == 3 and close_neighbours(table, places, GAP) == [] and report.quarantine == []
    for name, entry in table.items():
        assert all(entry.splits[split] for split in SPLITS) and len(entry.splits["train"]) >= 2, name
        assert {place.stop - place.start <= 250 for clip, place in places.items() if clip.startswith(name)} == {True}
    # A cut is a pause: the sound beside it is quieter than that of most frames.
    for clip_id in (clip for entry in table.values() for clip in entry.splits["train"][1:]):
        recording = run.root.parent / "corpus" / recording_of(clip_id)
        sound = open_sound(recording.with_suffix(".mp4")).in_step()
        levels = loudness_levels(sound, len(sound) // 640)
        assert levels[places[clip_id].start] < np.quantile(levels, 0.4)


def test_what_a_killed_process_left_of_a_record_goes(run: RunFolder, root: Path) -> None:
    """Such a file holds the recording's name, and would stay when the person withdraws."""
    for folder in ("pieces", "refused"):
        left = run.crops("one") / folder / f".talk.json.{2**22 + 1}-{MACHINE}.partial"  # no process has this number
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"half")
    assert prepare_clients(run, root, SETTINGS).made == 0
    assert not list(run.root.rglob("*.partial"))
