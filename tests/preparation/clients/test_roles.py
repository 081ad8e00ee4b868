from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.clients.roles import (
    SPLITS,
    SUBSET_ROLES,
    Client,
    ClientTable,
    assign_clients,
    left_out,
    load_clients,
    of_role,
    save_clients,
    size_shares,
    split_clips,
    unit_of,
)
from preparation.corpora.clip import Clip
from preparation.corpora.sources import source_of
from preparation.settings import ClientSettings, CorpusKind, CorpusSettings, SizeRule, SourceRule


def clip(speaker: str, number: int, subset: str = "") -> Clip:
    name = f"{number:05d}"
    return Clip(
        clip_id=f"{speaker}/{name}", speaker=speaker, path=f"{subset}/{speaker}/{name}.mp4", corpus="folder",
        subset=subset, frames=50, fps=25.0, width=128, height=128, seconds=2.0, audio_rate_hz=16000, bytes=1,
        sha256=f"{speaker}/{name}/{subset}", sidecar=None, truth=None,
    )  # fmt: skip


populations = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=4),
    st.tuples(st.integers(1, 12), st.sampled_from(["", *SUBSET_ROLES])),
    min_size=1,
    max_size=12,
)


@given(populations, st.integers(0, 5))
@settings(max_examples=60)
def test_every_clip_stands_in_exactly_one_split(people: dict[str, tuple[int, str]], seed: int) -> None:
    clips = [clip(who, number, subset) for who, (count, subset) in people.items() for number in range(count)]
    table = assign_clients(clips, ClientSettings(seed=seed))
    placed = [clip_id for entry in table.values() for clip_id in entry.clips()]
    assert sorted(placed) == sorted(clip.clip_id for clip in clips)
    assert all(clip_id.split("/")[0] == name for name, entry in table.items() for clip_id in entry.clips())
    assert table == assign_clients(reversed(clips), ClientSettings(seed=seed))
    for name, entry in table.items():
        subset = people[name][1]
        assert subset == "" or entry.role == SUBSET_ROLES[subset]
        filled = [split for split in SPLITS if entry.splits[split]]
        if entry.role == "unseen":
            assert filled == ["test"]
        elif entry.role == "public":
            assert filled in (["train"], ["validation"])
        elif entry.role == "volunteer":
            assert filled == ["validation"]
        elif people[name][0] >= 3:
            assert filled == list(SPLITS)


def test_eight_clips_split_4_2_2() -> None:
    splits = split_clips("c0000", [f"c0000/{number}" for number in range(8)], ClientSettings())
    assert {split: len(ids) for split, ids in splits.items()} == {"train": 4, "validation": 2, "test": 2}


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (40, (20, 10, 10))])
def test_split_sizes(count: int, sizes: tuple[int, int, int]) -> None:
    splits = split_clips("c", [f"c/{number:02d}" for number in range(count)], ClientSettings())
    assert tuple(len(splits[split]) for split in SPLITS) == sizes


def test_public_validation_holds_out_whole_people() -> None:
    clips = [clip(f"p{who:04d}", number, "pretrain") for who in range(20) for number in range(3)]
    table = assign_clients(clips, ClientSettings(public_validation_fraction=0.15))
    held_out = [name for name, entry in table.items() if entry.splits["validation"]]
    assert len(held_out) == 3
    assert all(not table[name].splits["train"] for name in held_out)


def test_a_client_who_also_stands_in_public_data_is_no_public_speaker() -> None:
    table = assign_clients([clip("ann", 1, "pretrain"), clip("ann", 2, "trainval"), clip("bob", 1, "pretrain")])
    assert table["ann"].role == "client" and len(table["ann"].clips()) == 2
    assert of_role(table, "public") == ["bob"]


def test_volunteers_only_validate_and_may_be_named_in_any_corpus() -> None:
    clips = [clip(f"s{who}", number) for who in range(10) for number in range(3)]
    clips += [clip("ann", number, "volunteers") for number in range(2)] + [clip("ann", 9, "pretrain")]
    table = assign_clients(clips, ClientSettings(volunteers=("s3", "s4"), public_speaker_fraction=0.25))
    assert of_role(table, "volunteer") == ["ann", "s3", "s4"]
    assert all(table[name].splits["validation"] == table[name].clips() for name in ("ann", "s3", "s4"))
    assert len(of_role(table, "public")) == 2 and len(of_role(table, "client")) == 6  # of the eight that are left


def test_a_volunteer_whom_the_corpus_does_not_have_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PrivFedTalkError, match="names 'anna'") as refused:
        assign_clients([clip("ann", 1), clip("bob", 1)], ClientSettings(volunteers=("anna",)))
    assert "'ann'" in refused.value.remedy


def test_plain_folders_get_a_seeded_public_share() -> None:
    clips = [clip(f"s{who}", number) for who in range(20) for number in range(4)]
    tables = [assign_clients(clips, ClientSettings(seed=seed, public_speaker_fraction=0.25)) for seed in (0, 1)]
    assert [len(of_role(table, "public")) for table in tables] == [5, 5]
    assert of_role(tables[0], "public") != of_role(tables[1], "public")
    # A newcomer changes the role of at most one other.
    grown = assign_clients([*clips, clip("s99", 1)], ClientSettings(public_speaker_fraction=0.25))
    assert sum(grown[name].role != entry.role for name, entry in tables[0].items()) <= 1


def test_table_round_trip(tmp_path: Path) -> None:
    table = assign_clients([clip("björn", number, "trainval") for number in range(5)])
    save_clients(table, tmp_path / "clients.json")
    assert load_clients(tmp_path / "clients.json") == table


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="no client table"):
        load_clients(tmp_path / "clients.json")
    (tmp_path / "clients.json").write_text('{"a": {"role": "client"}}')
    with pytest.raises(CorruptFileError, match=r"clients\.json"):
        load_clients(tmp_path / "clients.json")


def cut(speaker: str, name: str, corpus: str = "hdtf") -> Clip:
    return replace(clip(speaker, 0), clip_id=f"{speaker}/{name}", path=f"{speaker}/{name}.mp4", corpus=corpus)


def test_the_video_a_clip_was_cut_from_is_known_by_its_name() -> None:
    assert source_of(cut("Amy", "WDA_Amy1_003")) == source_of(cut("Amy", "WDA_Amy1_000")) == "Amy/WDA_Amy1"
    assert source_of(cut("Amy", "WDA_Amy0_000")) != source_of(cut("Amy", "WDA_Amy1_000"))
    assert source_of(cut("C8zY0oAdQrs", "00018", "lrs3")) == source_of(cut("C8zY0oAdQrs", "00002", "lrs3"))
    for corpus in ("studio", "folder"):
        assert source_of(cut("a", "x_1", corpus)) != source_of(cut("a", "x_2", corpus))
    assert source_of(cut("a", "x_1", "folder"), SourceRule.NUMBERED) == "a/x"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.integers(0, 5), st.sampled_from(list(SizeRule)))
@settings(max_examples=60)
def test_no_neighbours_stand_on_two_sides(cuts: list[int], seed: int, sizes: SizeRule) -> None:
    clips = [cut("amy", f"v{video}_{number}") for video, count in enumerate(cuts) for number in range(count)]
    options = ClientSettings(seed=seed, public_speaker_fraction=0, sizes=sizes)
    entry = assign_clients(clips, options)["amy"]
    sides: dict[str, set[str]] = {}
    for clip_id in entry.clips():
        sides.setdefault(clip_id.rpartition("_")[0], set()).add(entry.split_of(clip_id))
    if entry.one_video:
        assert len(sides) == 1
    else:
        assert all(len(found) == 1 for found in sides.values())
    if sizes is SizeRule.NATURAL:
        assert len(entry.clips()) == len(clips) and not entry.one_video


def test_a_client_of_one_video_is_split_by_clip_and_the_table_says_so(tmp_path: Path) -> None:
    talk = [replace(clip("talk", number, "trainval"), corpus="lrs3") for number in range(8)]
    table = assign_clients([*talk, *(clip("anna", number, "trainval") for number in range(8))])
    assert table["talk"].one_video and not table["anna"].one_video
    assert table["talk"].splits == split_clips("talk", [clip.clip_id for clip in talk], ClientSettings())
    save_clients(table, tmp_path / "clients.json")
    written = json.loads((tmp_path / "clients.json").read_text())
    assert written["talk"]["one_video"] is True and set(written["anna"]) == {"role", "speaker", "splits"}
    assert load_clients(tmp_path / "clients.json") == table


def test_held_out_clients_are_unseen_and_only_tested() -> None:
    clips = [clip(f"c{who}", number, "trainval") for who in range(10) for number in range(4)]
    table = assign_clients(clips, ClientSettings(unseen_client_fraction=0.3))
    assert len(of_role(table, "unseen")) == 3 and len(of_role(table, "client")) == 7
    assert all(len(table[name].splits["test"]) == 4 for name in of_role(table, "unseen"))
    assert of_role(assign_clients(clips[:4], ClientSettings(unseen_client_fraction=0.9)), "client") == ["c0"]


@pytest.mark.parametrize("rule", [SizeRule.LOGNORMAL, SizeRule.ZIPF])
def test_skewed_sizes_leave_rows_behind(rule: SizeRule) -> None:
    clips = [clip(f"c{who}", number, "trainval") for who in range(12) for number in range(20)]
    clips += [clip("p0", number, "pretrain") for number in range(20)]
    table = assign_clients(clips, ClientSettings(sizes=rule))
    rows = left_out(clips, table)
    placed = sorted(clip_id for entry in table.values() for clip_id in entry.clips())
    assert len(placed) == len(set(placed)) and len(placed) + len(rows) == len(clips)
    counts = sorted((len(table[name].clips()) for name in of_role(table, "client")), reverse=True)
    assert counts[0] == 20 and min(counts) >= 1 and len(table["p0"].clips()) == 20
    if rule is SizeRule.ZIPF:
        assert counts == [max(1, round(20 / rank)) for rank in range(1, 13)]


def test_lognormal_sizes_have_the_sigma_asked_for() -> None:
    shares = size_shares([f"c{number}" for number in range(4000)], SizeRule.LOGNORMAL, 0.8, seed=1)
    logarithms = [math.log(share) for share in shares.values()]
    assert max(shares.values()) == 1 and stdev(logarithms) == pytest.approx(0.8, rel=0.04)


def one_client(name: str, *clips: str, people: dict[str, str] | None = None) -> Client:
    return Client("client", name, {"train": list(clips), "validation": [], "test": []}, people=people or {})


@pytest.mark.parametrize(
    ("table", "unit"),
    [
        ({"a": one_client("a", "a/1"), "b": one_client("b", "b/1")}, "person"),
        ({"d0": one_client("d0", "a/1", "b/1", people={"a/1": "a", "b/1": "b"})}, "client (several people)"),
        ({"a": one_client("a", "a/1", "g/1", people={"g/1": "g"})}, "client (several people)"),  # a host with a guest
        (
            {name: one_client(name, clip, people={clip: "a"}) for name, clip in (("d0", "a/1"), ("d1", "a/2"))},
            "part of a person",
        ),
        (
            {
                "d0": one_client("d0", "a/1", "b/1", people={"a/1": "a", "b/1": "b"}),
                "d1": one_client("d1", "a/2", people={"a/2": "a"}),
            },
            "part of a person",
        ),
        # A public speaker's other clips are no second client.
        ({"a": one_client("a", "a/1"), "p": replace(one_client("p", "p/1"), role="public")}, "person"),
    ],
)
def test_what_a_client_is_follows_from_whose_clips_it_holds(table: ClientTable, unit: str) -> None:
    assert unit_of(table) == unit


@pytest.mark.parametrize(
    ("kind", "settings", "unit"),
    [
        (CorpusKind.STUDIO, {}, "person"),
        (CorpusKind.LRS3, {}, "part of a person"),  # its speakers are videos
        (CorpusKind.MIX, {}, "part of a person"),
        (CorpusKind.HDTF, {}, "person"),
        (CorpusKind.HDTF, {"hdtf_speaker": "video"}, "part of a person"),
        (CorpusKind.FOLDER, {}, "person"),
        (CorpusKind.FOLDER, {"speaker_rule": "top"}, "person"),
        (CorpusKind.FOLDER, {"speaker_rule": "stem"}, "part of a person"),
    ],
)
def test_a_rule_that_takes_videos_for_speakers_makes_parts_of_people(
    kind: CorpusKind, settings: dict, unit: str
) -> None:
    table = {"a": one_client("a", "a/1", "a/2")}
    assert unit_of(table, CorpusSettings(**settings), kind) == unit
    flat = {"holiday": one_client("holiday", "holiday/holiday")}
    expected = "part of a person" if kind is CorpusKind.FOLDER and settings != {"speaker_rule": "top"} else unit
    assert unit_of(flat, CorpusSettings(**settings), kind) == expected
