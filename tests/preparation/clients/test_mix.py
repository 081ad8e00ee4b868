from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.mix import join_guests
from preparation.clients.roles import SPLITS, assign_clients, load_clients, of_role
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import scan
from preparation.corpora.parts import link_part, named, read_parts, write_parts
from preparation.corpora.sources import source_of
from preparation.pipeline import prepare_folder
from preparation.settings import (
    ClientSettings,
    CorpusKind,
    CorpusPart,
    CorpusSettings,
    FaceSettings,
    MixSettings,
    PreparationSettings,
    QualitySettings,
    Unit,
)
from preparation.shards.store import read_shards
from tests.preparation.conftest import draw_clip

HOSTS, GUESTS = 8, 20


def clip(part: str, speaker: str, name: str, subset: str = "") -> Clip:
    return Clip(
        clip_id=f"{speaker}/{name}", speaker=speaker, path=f"{part}/{subset or 'x'}/{speaker}/{name}.mp4", corpus=part,
        subset=subset, frames=50, fps=25.0, width=128, height=128, seconds=2.0, audio_rate_hz=16000, bytes=1,
        sha256=f"{speaker}/{name}", sidecar=None, truth=None,
    )  # fmt: skip


def company() -> tuple[list[Clip], list[Clip]]:
    """Eight LRS3 clients with a public and an unseen person; twenty HDTF people with two videos of two cuts each."""
    people = [*((f"c{number}", "trainval") for number in range(HOSTS)), ("p", "pretrain"), ("u", "test")]
    hosts = [clip("lrs3", who, f"{number:05d}", subset) for who, subset in people for number in range(4)]
    cuts = [
        (f"WDA_A{who}b", f"WDA_A{who}b{video}_{cut}") for who in range(GUESTS) for video in (0, 1) for cut in (0, 1)
    ]
    return hosts, [clip("hdtf", speaker, name) for speaker, name in cuts]


@pytest.mark.parametrize("unit", list(Unit))
def test_guests_join_clients_only_and_videos_stay_whole(unit: Unit) -> None:
    own, guests = company()
    alone = assign_clients(own, ClientSettings())
    table, rows = join_guests([*guests, *own], "lrs3", MixSettings(unit=unit), ClientSettings())
    assert (table, rows) == join_guests([*own, *guests], "lrs3", MixSettings(unit=unit), ClientSettings())
    assert rows == []
    assert set(table) == set(alone)
    assert table["p"] == alone["p"] and table["u"] == alone["u"]
    placed = sorted(clip_id for entry in table.values() for clip_id in entry.clips())
    assert placed == sorted(clip.clip_id for clip in (*own, *guests))
    places: dict[str, set[tuple[str, str]]] = {}
    homes: dict[str, set[str]] = {}
    by_id = {clip.clip_id: clip for clip in guests}
    for name in of_role(table, "client"):
        entry = table[name]
        # Without the guests it is the table of a run without guests.
        for split, ids in entry.splits.items():
            assert [clip_id for clip_id in ids if clip_id not in by_id] == alone[name].splits[split]
        assert set(entry.people) == {clip_id for clip_id in entry.clips() if clip_id in by_id}
        for clip_id in entry.people:
            assert entry.person_of(clip_id) == by_id[clip_id].speaker
            places.setdefault(source_of(by_id[clip_id]), set()).add((name, entry.split_of(clip_id)))
            homes.setdefault(by_id[clip_id].speaker, set()).add(name)
    assert len(places) == 2 * GUESTS
    assert all(len(place) == 1 for place in places.values())
    assert {split for place in places.values() for _, split in place} == {"train", "validation", "test"}
    assert (unit is Unit.PERSON) == all(len(home) == 1 for home in homes.values())


def test_seeds_reproduce_and_differ() -> None:
    clips = [*company()[0], *company()[1]]
    first, second, again = (
        join_guests(clips, "lrs3", MixSettings(), ClientSettings(seed=seed))[0] for seed in (0, 1, 0)
    )
    assert first == again
    assert {name: set(entry.people) for name, entry in first.items()} != {
        name: set(entry.people) for name, entry in second.items()
    }


def test_shares_say_who_takes_part() -> None:
    own, guests = company()
    settings = MixSettings(guest_share=0.25, client_share=0.25)
    table, rows = join_guests([*own, *guests], "lrs3", settings, ClientSettings())
    joined = [entry for entry in table.values() if entry.people]
    assert 1 <= len(joined) <= 2
    assert len({person for entry in joined for person in entry.people.values()}) == GUESTS // 4
    assert len(rows) == 3 * GUESTS  # the 15 people who are left out, with four clips each
    assert {row.reason for row in rows} == {"not among the guests that the mix draws"}
    # One more guest moves nobody who is dealt already.
    more = [*guests, clip("hdtf", "WDA_New", "WDA_New_0")]
    bigger, _ = join_guests([*own, *more], "lrs3", MixSettings(), ClientSettings())
    before, _ = join_guests([*own, *guests], "lrs3", MixSettings(), ClientSettings())
    for name, entry in before.items():
        assert set(entry.people) <= set(bigger[name].people)


def test_without_clients_nobody_can_be_joined() -> None:
    _, guests = company()
    with pytest.raises(PrivFedTalkError, match="no client of the part 'lrs3'"):
        join_guests([clip("lrs3", "p", "00001", "pretrain"), *guests], "lrs3", MixSettings(), ClientSettings())


def test_names_of_parts(tmp_path: Path) -> None:
    parts = [CorpusPart(kind=kind, root=tmp_path) for kind in (CorpusKind.LRS3, CorpusKind.HDTF, CorpusKind.HDTF)]
    assert list(named(parts)) == ["lrs3", "hdtf", "hdtf-2"]


@pytest.fixture
def mixed(studio_corpus: Path, tmp_path: Path) -> Path:
    """The studio's people and, as guests, three HDTF videos; one guest has a host's name."""
    for name in ("WDA_Anna0_0", "WDA_Anna0_1", "RD_Radio1_0"):
        (tmp_path / "ready").mkdir(exist_ok=True)
        (tmp_path / "ready" / f"{name}.mp4").write_bytes((studio_corpus / "trainval/c0000/00001.mp4").read_bytes())
    (tmp_path / "ready" / "c0000.mp4").write_bytes((studio_corpus / "trainval/c0000/00001.mp4").read_bytes())
    (tmp_path / "ready" / "broken.mp4").touch()
    root = tmp_path / "mix"
    link_part(root, "studio", studio_corpus)
    link_part(root, "hdtf", tmp_path / "ready")
    link_part(root, "old", tmp_path / "ready")
    write_parts(root, {"studio": CorpusKind.STUDIO, "hdtf": CorpusKind.HDTF})
    return root


def test_each_part_is_read_by_its_own_rules(mixed: Path, tmp_path: Path) -> None:
    assert list(read_parts(mixed)) == ["studio", "hdtf"]
    assert not (mixed / "old").exists()
    listed = tmp_path / "list.txt"
    listed.write_text("trainval/c0000/00001\ntrainval/c0001/00001\ntrainval/c0009/00001\n")
    everything, some = scan("mix", mixed), scan("mix", mixed, CorpusSettings(lists=(listed,)))
    assert len(everything.clips) == 18 + 4
    assert [row.file for row in everything.quarantine] == ["hdtf/broken.mp4"]
    by_id = {clip.clip_id: clip for clip in everything.clips}
    assert len(by_id) == 22
    host, guest = by_id["c0000/00001"], by_id["WDA_Anna/WDA_Anna0_0"]
    assert (host.corpus, host.path, host.truth) == (
        "studio", "studio/trainval/c0000/00001.mp4", "studio/trainval/c0000/00001.truth.safetensors",
    )  # fmt: skip
    assert (guest.corpus, guest.path) == ("hdtf", "hdtf/WDA_Anna0_0.mp4")
    assert by_id["hdtf-c0000/c0000"].speaker == "hdtf-c0000"
    assert len(some.clips) == 2 + 4
    assert "studio/trainval/c0009/00001" in {row.file for row in some.quarantine}


def test_a_mix_becomes_shards(studio_corpus: Path, tmp_path: Path) -> None:
    def latents(frames: np.ndarray) -> np.ndarray:
        return np.zeros((len(frames), 4, frames.shape[1] // 8, frames.shape[2] // 8), dtype=np.float32)

    for guest in ("g0", "g1"):
        for number in range(1, 5):
            draw_clip(tmp_path / "more/trainval" / guest / f"{number:05d}.mp4")
    root = tmp_path / "mix"
    link_part(root, "studio", studio_corpus)
    link_part(root, "lrs3", tmp_path / "more")
    write_parts(root, {"studio": CorpusKind.STUDIO, "lrs3": CorpusKind.LRS3})
    settings = PreparationSettings(
        corpus=CorpusSettings(subsets=("trainval",)),
        faces=FaceSettings(tracker="truth"),
        quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0),
        mix=MixSettings(client_share=0.34),
    )
    run = RunFolder(tmp_path / "run")
    report = prepare_folder("mix", root, run, settings, 1, latents)
    assert report.quarantine == []
    assert (report.clips, report.shards.clients, report.shards.samples) == (12 + 8, 3, 12 + 8)
    (host,) = (name for name, entry in load_clients(run.clients_table).items() if entry.people)
    samples = [sample for split in SPLITS for sample in read_shards(run.client(host), split)]
    assert len(samples) == 4 + 8
    # A reference frame shows the clip's own person, also where clients hold several.
    for sample in samples:
        assert sample.metadata["reference_clip"].split("/")[0] == sample.clip_id.split("/")[0]
    assert not (run.client("g0") / "shards").exists()
