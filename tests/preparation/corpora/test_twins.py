"""One recording under several names has one place: one side of a split, one person, and never the public."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.preparation.corpus import disjoint
from common.folders import RunFolder
from preparation.clients.dealing import deal_clips
from preparation.clients.mix import join_guests
from preparation.clients.roles import SPLITS, ClientTable, assign, assign_clients, left_out, load_clients, unit_of
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import scan
from preparation.corpora.twins import copies_of, recordings_of
from preparation.media.writing import encode
from preparation.pipeline import register_corpus
from preparation.quarantine import TWINS, load_quarantine
from preparation.settings import (
    ClientSettings,
    MixSettings,
    PartitionSettings,
    PreparationSettings,
    SizeRule,
    SourceRule,
    Unit,
)
from tests.preparation.conftest import WriteClip, noise, tone
from tests.preparation.media.test_container import tracks


def clip(speaker: str, name: str, recording: str = "", subset: str = "", corpus: str = "folder") -> Clip:
    """A row whose content is `recording`, or its own."""
    own = f"{speaker}/{name}/{subset}"
    return Clip(
        clip_id=f"{speaker}/{name}", speaker=speaker, path=f"{corpus}/{subset}/{speaker}/{name}.mp4", corpus=corpus,
        subset=subset, frames=50, fps=25.0, width=128, height=128, seconds=2.0, audio_rate_hz=16000, bytes=1,
        sha256=recording or own, sidecar=None, truth=None,
    )  # fmt: skip


def places(table: ClientTable) -> dict[str, tuple[str, str]]:
    return {id_: (name, split) for name, entry in table.items() for split in SPLITS for id_ in entry.splits[split]}


def remux(source: Path, target: Path, kinds: str = "va") -> Path:
    """The same packets in another file."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        streams = [stream for stream in read.streams if stream.type[0] in kinds]
        copies = {stream.index: write.add_stream_from_template(stream) for stream in streams}
        for packet in read.demux(*streams):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                write.mux(packet)
    return target


def test_copies_are_known_in_other_containers_and_by_their_sound_or_pictures(
    tmp_path: Path, write_clip: WriteClip
) -> None:
    source = write_clip(tmp_path / "a" / "one.mp4", frames=30)
    shutil.copy(source, tmp_path / "a" / "copy.mp4")
    remux(source, tmp_path / "a" / "other.mkv")
    remux(source, tmp_path / "a" / "mute.mp4", "v")
    write_clip(tmp_path / "a" / "different.mp4", frames=30)
    found = scan("folder", tmp_path).clips
    assert set(recordings_of(found)) == {"a/copy", "a/one", "a/other", "a/mute"}
    assert len(set(recordings_of(found).values())) == 1
    # Another size, the sound taken over as it was.
    rows = {one.name: one for one in found}
    louder, different = rows["one"].sound_sha256, rows["different"]
    other = [one for one in found if one != different] + [replace(different, sha256="x", sound_sha256=louder)]
    assert recordings_of(other)["a/different"] == recordings_of(other)["a/one"]


def test_a_recording_is_known_by_the_track_that_is_read(tmp_path: Path) -> None:
    """Files that begin with one and the same other track (a title card, a cover) are no copies of each other."""
    tracks(tmp_path / "1.mkv", ["libx264", "libx264"], default=1)
    tracks(tmp_path / "2.mkv", ["libx264", "mpeg4"], default=1)
    assert recordings_of(scan("folder", tmp_path).clips) == {}
    tracks(tmp_path / "3.mkv", ["mpeg4", "mpeg4"], default=1)
    assert set(recordings_of(scan("folder", tmp_path).clips)) == {"2/2", "3/3"}


def test_copies_in_another_corpus_are_found_by_any_of_their_tracks() -> None:
    theirs = [clip("public", "talk", "one"), replace(clip("public", "two"), sound_sha256="two")]
    ours = [clip("anna", "a", "one"), replace(clip("anna", "b"), sound_sha256="two"), clip("anna", "c")]
    assert copies_of(ours, theirs) == ["anna/a", "anna/b"]


def test_silence_is_no_recording(tmp_path: Path, write_clip: WriteClip) -> None:
    for seed in (1, 2):
        encode(noise(30, seed=seed), 0 * tone(1.2), tmp_path / f"{seed}.mp4")
    found = scan("folder", tmp_path).clips
    assert [one.sound_sha256 for one in found] == ["", ""] and recordings_of(found) == {}


def test_copies_of_one_person_stand_on_one_side_and_are_told() -> None:
    for seed in range(12):
        clips = [clip("ann", f"{number}", f"r{number // 2}") for number in range(12)]
        options = ClientSettings(seed=seed, public_speaker_fraction=0)
        (entry,) = assign_clients(clips, options).values()
        sides = {f"r{number // 2}": entry.split_of(f"ann/{number}") for number in range(12)}
        assert all(entry.split_of(f"ann/{number}") == sides[f"r{number // 2}"] for number in range(12))
        assert all(entry.splits[split] for split in SPLITS)
        rows = left_out(clips, {"ann": entry})
        assert len(rows) == 12 and {row.step for row in rows} == {TWINS}
        assert "on one side of every split" in rows[0].reason


@pytest.mark.parametrize("rule", list(SourceRule))
def test_videos_that_share_a_recording_are_one_source(rule: SourceRule) -> None:
    """`talk_1` is a copy of `walk_0`: where the cuts of a video stay together, those of both do."""
    names = ("talk_0", "talk_1", "walk_0", "walk_1", "sing_0", "sing_1", "jump_0", "jump_1")
    clips = [clip("ann", name, "same" if name in ("talk_1", "walk_0") else "") for name in names]
    for seed in range(8):
        options = ClientSettings(seed=seed, sources=rule, public_speaker_fraction=0)
        entry = assign_clients(clips, options)["ann"]
        assert entry.split_of("ann/talk_1") == entry.split_of("ann/walk_0")
        if rule is SourceRule.NUMBERED:
            assert len({entry.split_of(f"ann/{name}") for name in names[:4]}) == 1


def test_a_client_of_copies_alone_has_one_side() -> None:
    entry = assign_clients([clip("ann", str(n), "r") for n in range(4)], ClientSettings(public_speaker_fraction=0))[
        "ann"
    ]
    assert (len(entry.splits["train"]), entry.one_video) == (4, False)


@pytest.mark.parametrize(
    ("subsets", "role", "keeper"),
    [
        (("pretrain", "trainval"), "client", "zoe"),
        (("pretrain", "test"), "unseen", "zoe"),
        (("trainval", "test"), "unseen", "zoe"),
        (("pretrain", "volunteers"), "volunteer", "zoe"),
        (("volunteers", "trainval"), "client", "zoe"),
        (("pretrain", "pretrain"), "public", "amy"),
        (("trainval", "trainval"), "client", "amy"),
    ],
)
def test_of_two_people_with_one_recording_the_stricter_keeps_it(
    subsets: tuple[str, str], role: str, keeper: str
) -> None:
    amy = [clip("amy", str(number), subset=subsets[0]) for number in range(4)]
    zoe = [clip("zoe", str(number), subset=subsets[1]) for number in range(4)]
    others = [clip(f"p{number}", "0", subset="pretrain") for number in range(4)]
    zoe[1] = replace(zoe[1], sha256=amy[2].sha256)
    clips = [*amy, *zoe, *others]
    assigned = assign(clips)
    assert {assigned.table[who].role for who in ("amy", "zoe")} == {role}, "nobody's face is public and a client's"
    lost = {"amy": "zoe/1", "zoe": "amy/2"}[keeper]
    assert set(assigned.refused) == {lost} and lost not in places(assigned.table)
    assert len(places(assigned.table)) == len(clips) - 1
    assert (assigned.table["amy"].shares, assigned.table["zoe"].shares) == (["zoe"], ["amy"])
    (row,) = left_out(clips, assigned.table, assigned.refused)
    assert (row.step, row.file.split("/")[-2:]) == ("clients", f"{lost}.mp4".split("/"))
    assert f"may be {keeper}" in row.reason and "one folder" in row.remedy
    assert unit_of(assigned.table) == ("part of a person" if role == "client" else "person")
    assert disjoint(assigned.table, recordings_of(clips)).passed


def test_the_check_sees_a_recording_in_two_places() -> None:
    clips = [clip("ann", "0", "r"), clip("ann", "1", "r"), clip("ann", "2")]
    entry = assign_clients(clips, ClientSettings(public_speaker_fraction=0))["ann"]
    assert disjoint({"ann": entry}, recordings_of(clips)).passed
    torn = replace(entry, splits={"train": ["ann/0"], "validation": ["ann/2"], "test": ["ann/1"]})
    assert disjoint({"ann": torn}).passed and not disjoint({"ann": torn}, recordings_of(clips)).passed


def test_whose_every_clip_is_anothers_has_no_entry() -> None:
    clips = [clip(who, str(number), f"r{number}") for who in ("amy", "zoe") for number in range(3)]
    assigned = assign(clips, ClientSettings(public_speaker_fraction=0))
    assert set(assigned.table) == {"amy"} and set(assigned.refused) == {f"zoe/{number}" for number in range(3)}


people = st.dictionaries(
    st.sampled_from("abcdef"),
    st.tuples(
        st.lists(st.integers(0, 14), min_size=1, max_size=8), st.sampled_from(["", "pretrain", "trainval", "test"])
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150)
@given(people, st.integers(0, 3), st.sampled_from(list(SourceRule)), st.sampled_from(list(SizeRule)))
def test_whatever_is_shared_a_recording_has_one_place(
    population: dict[str, tuple[list[int], str]], seed: int, sources: SourceRule, sizes: SizeRule
) -> None:
    clips = [
        clip(who, f"{place}_{recording}", f"r{recording}", subset)
        for who, (recordings, subset) in population.items()
        for place, recording in enumerate(recordings)
    ]
    assigned = assign(clips, ClientSettings(seed=seed, sources=sources, sizes=sizes))
    stands = places(assigned.table)
    for recording in {each.sha256 for each in clips}:
        ids = [each.clip_id for each in clips if each.sha256 == recording]
        assert len({stands[id_] for id_ in ids if id_ in stands}) <= 1
        if sizes is SizeRule.NATURAL:
            assert any(id_ in stands for id_ in ids), "no recording is lost"
    rows = left_out(clips, assigned.table, assigned.refused)
    assert {row.file for row in rows if row.step == "clients"} == {
        each.path for each in clips if each.clip_id not in stands
    }
    linked = {(a.speaker, b.speaker) for a in clips for b in clips if a.sha256 == b.sha256}
    roles = {name: entry.role for name, entry in assigned.table.items()}
    assert all(roles[a] == roles[b] for a, b in linked if a in roles and b in roles), "public and a client at once"


def test_a_guest_who_shares_with_the_public_makes_nobody_public() -> None:
    roles = {"c": "trainval", "p": "pretrain", "q": "pretrain"}
    own = [clip(who, str(n), subset=subset, corpus="lrs3") for who, subset in roles.items() for n in range(4)]
    guests = [clip("g", str(n), "lrs" if n else "", corpus="hdtf") for n in range(2)]
    own[5] = replace(own[5], sha256="lrs")
    table, rows = join_guests([*own, *guests], "lrs3", MixSettings(), ClientSettings())
    assert {name: entry.role for name, entry in table.items()} == {"c": "client", "p": "client", "q": "public"}
    stands = places(table)
    assert ("g/1" in stands) + ("p/1" in stands) == 1
    assert len(rows) == 1 and "the same recording" in rows[0].reason


@pytest.mark.parametrize("unit", list(Unit))
def test_dealing_keeps_twins_and_kin_together(unit: Unit) -> None:
    clips = [clip(who, str(number), subset="trainval") for who in "abcdef" for number in range(4)]
    clips[5] = replace(clips[5], sha256=clips[2].sha256)  # b's is a's
    clips[9] = replace(clips[9], sha256=clips[8].sha256)  # c has one twice
    people = assign_clients(clips)
    features = {id_: [float(ord(id_[0])), float(ord(id_[-1]))] for id_ in places(people)}
    vectors = {id_: np.array(vector) for id_, vector in features.items()}
    for seed in range(5):
        dealt = deal_clips(clips, people, vectors, PartitionSettings(clients=3, clusters=2, unit=unit, seed=seed))
        stands = places(dealt)
        assert stands["c/0"] == stands["c/1"]
        if unit is Unit.PERSON:
            assert len({stands[id_][0] for id_ in stands if id_[0] in "ab"}) == 1, "they may be one person"


def test_a_copy_in_the_public_folder_is_a_row_and_trains_nobody(tmp_path: Path, write_clip: WriteClip) -> None:
    root, run = tmp_path / "corpus", RunFolder(tmp_path / "run")
    for subset, who in (("pretrain", "pia"), ("pretrain", "pam"), ("trainval", "cat")):
        for number in range(3):
            write_clip(root / subset / who / f"{number}.mp4", frames=12)
    shutil.copy(root / "trainval/cat/1.mp4", root / "pretrain/pia/again.mp4")
    remux(root / "trainval/cat/2.mp4", root / "pretrain/pia/muxed.mkv")
    _, table = register_corpus("lrs3", root, run, PreparationSettings())
    assert load_clients(run.clients_table) == table
    assert {name: entry.role for name, entry in table.items()} == {"pia": "client", "pam": "public", "cat": "client"}
    rows = {row.file: row for row in load_quarantine(run.quarantine)}
    assert set(rows) == {"pretrain/pia/again.mp4", "pretrain/pia/muxed.mkv"}
    assert "pia may be cat" in rows["pretrain/pia/again.mp4"].reason
