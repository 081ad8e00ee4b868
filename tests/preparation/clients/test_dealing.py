from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.consent import Consent, now, objection_to, read_consent, write_consent
from preparation.clients.dealing import deal_clips, deal_run
from preparation.clients.features import measure_clips
from preparation.clients.mix import join_guests
from preparation.clients.roles import assign_clients, load_clients, load_people, of_role
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import load_manifest
from preparation.crops.crop import load_crop
from preparation.pipeline import build_all_shards, prepare_clients, register_corpus
from preparation.quarantine import load_quarantine
from preparation.settings import (
    ClientSettings,
    FaceSettings,
    MixSettings,
    PartitionRule,
    PartitionSettings,
    PreparationSettings,
    QualitySettings,
    SizeRule,
    Unit,
)
from preparation.shards.store import read_shards

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)
PEOPLE, CUTS = 12, 4


def encode(frames: np.ndarray) -> np.ndarray:
    count, height, width, _ = frames.shape
    blocks = frames.reshape(count, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    return np.concatenate([blocks / 127.5 - 1, np.ones_like(blocks[:, :1])], axis=1).astype(np.float32)


def talkers(corpus: str) -> list[Clip]:
    """Twelve clients of two videos with two cuts each, a public and an unseen person."""
    people = [*((f"c{who}", "trainval") for who in range(PEOPLE)), ("p0", "pretrain"), ("u0", "test")]
    names = [f"talk{video}_{number}" for video in range(2) for number in range(2)]
    return [
        Clip(
            clip_id=f"{who}/{name}", speaker=who, path=f"{subset}/{who}/{name}.mp4", corpus=corpus, subset=subset,
            frames=50, fps=25.0, width=128, height=128, seconds=2.0, audio_rate_hz=16000, bytes=1,
            sha256=f"{who}/{name}", sidecar=None, truth=None,
        )
        for who, subset in people
        for name in names
    ]  # fmt: skip


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("corpus", ["hdtf", "lrs3", "studio"])
def test_dealt_clips_are_all_there_once_and_videos_stay_whole(corpus: str, unit: Unit) -> None:
    clips = talkers(corpus)
    table = assign_clients(clips)
    rng = np.random.default_rng(0)
    features = {clip.clip_id: rng.normal(size=6) for clip in clips if clip.subset == "trainval"}
    settings = PartitionSettings(clients=4, clusters=3, unit=unit)
    new = deal_clips(clips, table, features, settings)
    assert new == deal_clips(list(reversed(clips)), table, features, settings)
    assert sorted(clip for entry in new.values() for clip in entry.clips()) == sorted(clip.clip_id for clip in clips)
    assert of_role(new, "client") == ["d0000", "d0001", "d0002", "d0003"]
    assert new["p0"] == table["p0"] and new["u0"] == table["u0"]
    homes: dict[str, set[str]] = {}
    sides: dict[tuple[str, str], set[str]] = {}
    for name in of_role(new, "client"):
        assert not new[name].one_video
        for clip_id in new[name].clips():
            person, _, own = clip_id.partition("/")
            assert new[name].person_of(clip_id) == person
            homes.setdefault(person, set()).add(name)
            video = {"hdtf": own.rpartition("_")[0], "lrs3": "", "studio": own}[corpus]
            sides.setdefault((person, video), set()).add(new[name].split_of(clip_id))
    assert all(len(found) == 1 for found in sides.values()) or (corpus, unit) == ("lrs3", Unit.VIDEO)
    assert unit is Unit.VIDEO or all(len(found) == 1 for found in homes.values())


@pytest.mark.parametrize("unit", list(Unit))
def test_a_mix_is_dealt_and_every_clip_stays_its_persons(unit: Unit) -> None:
    hosts = [replace(clip, path=f"lrs3/{clip.path}") for clip in talkers("lrs3")]
    guests = [
        replace(
            clip,
            clip_id=f"{guest}/{clip.name}",
            speaker=guest,
            path=f"hdtf/{clip.path}",
            subset="",
            sha256=f"{guest}/{clip.name}",
        )
        for clip, guest in ((clip, clip.speaker.replace("c", "WDA_Guest")) for clip in talkers("hdtf"))
        if clip.subset == "trainval"
    ]
    clips = [*hosts, *guests]
    people, rows = join_guests(clips, "lrs3", MixSettings(), ClientSettings())
    assert rows == [] and any(entry.people for entry in people.values())
    rng = np.random.default_rng(0)
    placed = {clip for name in of_role(people, "client") for clip in people[name].clips()}
    features = {clip_id: rng.normal(size=6) for clip_id in placed}
    table = deal_clips(clips, people, features, PartitionSettings(clients=5, clusters=3, unit=unit))
    dealt = [(clip, table[name].person_of(clip)) for name in of_role(table, "client") for clip in table[name].clips()]
    assert sorted(clip for clip, _ in dealt) == sorted(placed)
    assert all(person == clip.partition("/")[0] for clip, person in dealt)


def test_too_few_people_are_refused() -> None:
    clips = talkers("studio")
    features = {clip.clip_id: np.zeros(6) for clip in clips if clip.subset == "trainval"}
    with pytest.raises(PrivFedTalkError, match="12 persons with crops cannot fill 13 clients"):
        deal_clips(clips, assign_clients(clips), features, PartitionSettings(clients=13))


def test_new_clients_take_no_name_that_the_corpus_has() -> None:
    clips = [replace(clip, clip_id=clip.clip_id.replace("p0", "d0001"), speaker=clip.speaker.replace("p0", "d0001"))
             for clip in talkers("studio")]  # fmt: skip
    features = {clip.clip_id: np.zeros(6) for clip in clips if clip.subset == "trainval"}
    table = deal_clips(clips, assign_clients(clips), features, PartitionSettings(clients=2))
    assert of_role(table, "client") == ["dd0000", "dd0001"] and table["d0001"].role == "public"


def dealt(clients: int, alpha: float = 0.5) -> PreparationSettings:
    partition = PartitionSettings(by=PartitionRule.DIRICHLET, clients=clients, clusters=2, alpha=alpha)
    return SETTINGS.model_copy(update={"partition": partition})


def stamps(run: RunFolder, pattern: str) -> dict[str, int]:
    return {str(path.relative_to(run.root)): path.stat().st_mtime_ns for path in run.root.glob(pattern)}


def test_dealing_makes_shards_of_mixed_clients_and_no_crop(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    deal_run(run, SETTINGS)
    assert load_clients(run.clients_table) == load_people(run)
    build_all_shards(run, encode, SETTINGS)
    crops, public = stamps(run, "clients/*/crops/*"), stamps(run, "clients/[pu]*/shards/*")

    table = deal_run(run, dealt(2))
    assert load_clients(run.clients_table) == table and of_role(load_people(run), "client") == [
        "c0000",
        "c0001",
        "c0002",
    ]
    assert build_all_shards(run, encode, dealt(2)).samples == 18
    assert {path.parts[-3] for path in run.root.glob("clients/*/shards/*.tar")} == set(table)
    seen = []
    for client in of_role(table, "client"):
        for sample in read_shards(run.client(client)):
            person = table[client].person_of(sample.clip_id)
            assert (sample.client, person) == (client, sample.clip_id.split("/")[0])
            assert table[client].person_of(sample.metadata["reference_clip"]) == person
            train = [clip for clip in table[client].splits["train"] if table[client].person_of(clip) == person]
            assert sample.metadata["reference_clip"] != sample.clip_id or train == [sample.clip_id]
            seen.append(sample.clip_id)
    assert len(seen) == len(set(seen)) == 12
    assert load_quarantine(run.quarantine) == []

    # Again: the same table, and no shard is written anew.
    before = stamps(run, "clients/*/shards/*")
    assert deal_run(run, dealt(2)) == table
    assert build_all_shards(run, encode, dealt(2)).kept_clients == len(table)
    assert stamps(run, "clients/*/shards/*") == before
    # Back to people: the dealt clients are gone; nothing above touched a crop or another's shards.
    deal_run(run, SETTINGS)
    assert not list(run.root.glob("clients/d*"))
    build_all_shards(run, encode, SETTINGS)
    assert stamps(run, "clients/*/crops/*") == crops and stamps(run, "clients/[pu]*/shards/*") == public


@pytest.mark.slow(minutes=0.1)
def test_clips_of_who_forbids_training_are_dealt_to_nobody(studio_corpus: Path, tmp_path: Path) -> None:
    """And what a simulated client agreed to does not hold for other people's clips."""
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    before = deal_run(run, dealt(1))
    write_consent(run, "d0000", Consent(who="all three", granted=now()))
    assert deal_run(run, dealt(1)) == before and read_consent(run, "d0000") is not None
    write_consent(run, "c0001", Consent(who="Ben", granted=now(), revoked=now()))
    assert objection_to(run, "d0000", "training", required=False) == f"c0001: revoked on {now()}"
    table = deal_run(run, dealt(1))
    assert set(table["d0000"].people.values()) == {"c0000", "c0002"} and load_quarantine(run.quarantine) == []
    assert read_consent(run, "d0000") is None
    assert objection_to(run, "d0000", "training", required=False) is None
    # Back to people and to simulated clients again: a record that was left behind is nobody's.
    write_consent(run, "d0000", Consent(who="two of them", granted=now()))
    deal_run(run, SETTINGS)
    deal_run(run, dealt(1))
    assert read_consent(run, "d0000") is None


def test_a_damaged_crop_is_dealt_to_nobody_and_stands_in_the_table(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    (run.crops("c0001") / "00002.safetensors").write_bytes(b"rotten")
    table = deal_run(run, dealt(3))
    assert sum(len(table[name].clips()) for name in of_role(table, "client")) == 11
    (row,) = load_quarantine(run.quarantine)
    assert (row.file, row.step) == ("trainval/c0001/00002.mp4", "dealing")
    with pytest.raises(PrivFedTalkError, match="3 persons with crops cannot fill 4 clients"):
        deal_run(run, dealt(4))
    assert load_clients(run.clients_table) == table


def test_features_tell_bright_from_dark_and_turned_from_frontal(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    table = load_clients(run.clients_table)
    found = measure_clips(run, [("c0000", table["c0000"])])
    assert sorted(found) == sorted(table["c0000"].clips())
    for clip_id, features in found.items():
        crop = load_crop(run.crops("c0000"), clip_id.split("/")[1])
        frames = np.stack(list(crop.frames()))[:200:25]
        np.testing.assert_allclose(features.appearance[:3], frames.mean(axis=(0, 1, 2)) / 255, atol=1e-6)
        assert features.pose.shape == (30, 2) and abs(features.pose[:, 0]).max() < 0.05
        assert features.vector().shape == (6,)


@pytest.mark.slow(minutes=0.1)
def test_some_clients_alone_leave_the_others_and_their_rows(studio_corpus: Path, tmp_path: Path) -> None:
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    for name in ("c0000", "c0001"):
        (studio_corpus / f"trainval/{name}/00001.truth.safetensors").write_bytes(b"rotten")
    for run in (whole, parts):
        register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(whole, studio_corpus, SETTINGS)
    everything = build_all_shards(whole, encode, SETTINGS)
    clients = sorted(load_clients(parts.clients_table))
    counts = [prepare_clients(parts, studio_corpus, SETTINGS, only=[name]) for name in clients]
    shards = [build_all_shards(parts, encode, SETTINGS, only=[name]) for name in clients]
    assert sum(count.made for count in counts) == 16 and sum(count.quarantined for count in counts) == 2
    assert sum(count.samples for count in shards) == everything.samples == 16
    assert load_quarantine(parts.quarantine) == load_quarantine(whole.quarantine) != []
    for path in whole.root.rglob("index.json"):
        assert json.loads(path.read_text()) == json.loads((parts.root / path.relative_to(whole.root)).read_text())
    # Mended and made again alone, one client's row goes and the other's stays.
    good = studio_corpus / "trainval/c0002/00001.truth.safetensors"
    (studio_corpus / "trainval/c0000/00001.truth.safetensors").write_bytes(good.read_bytes())
    prepare_clients(parts, studio_corpus, SETTINGS, only=["c0000"])
    assert [row.file for row in load_quarantine(parts.quarantine)] == ["trainval/c0001/00001.mp4"]
    with pytest.raises(PrivFedTalkError, match="no client nobody"):
        prepare_clients(parts, studio_corpus, SETTINGS, only=["nobody"])


def test_a_clip_without_a_place_is_a_row_and_no_crop(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    settings = SETTINGS.model_copy(update={"clients": ClientSettings(sizes=SizeRule.ZIPF, size_skew=2.0)})
    clips, table = register_corpus("studio", studio_corpus, run, settings)
    rows = load_quarantine(run.quarantine)
    placed = {clip for entry in table.values() for clip in entry.clips()}
    assert rows and {row.step for row in rows} == {"clients"}
    assert len(rows) + len(placed) == len(clips) == len(load_manifest(run.manifest))
    assert prepare_clients(run, studio_corpus, settings).made == len(placed)
    register_corpus("studio", studio_corpus, run, SETTINGS)
    assert load_quarantine(run.quarantine) == []
