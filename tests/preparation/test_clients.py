from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preparation.clients import (
    SPLITS,
    assign_clients,
    load_clients,
    of_role,
    save_clients,
    split_clips,
)
from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.manifest import Clip
from preparation.settings import ClientSettings


def clip(speaker: str, number: int, subset: str = "") -> Clip:
    name = f"{number:05d}"
    return Clip(
        clip_id=f"{speaker}/{name}", speaker=speaker, path=f"{subset}/{speaker}/{name}.mp4", corpus="folder",
        subset=subset, frames=50, fps=25.0, width=128, height=128, seconds=2.0, audio_rate_hz=16000, bytes=1,
        sha256="0" * 64, sidecar=None, truth=None,
    )  # fmt: skip


populations = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=4),
    st.tuples(st.integers(1, 12), st.sampled_from(["", "pretrain", "trainval", "test"])),
    min_size=1,
    max_size=12,
)


@given(populations, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_clip_stands_in_exactly_one_split(people: dict[str, tuple[int, str]], seed: int) -> None:
    clips = [clip(who, number, subset) for who, (count, subset) in people.items() for number in range(count)]
    table = assign_clients(clips, ClientSettings(seed=seed))
    placed = [clip_id for entry in table.values() for clip_id in entry.clips()]
    assert sorted(placed) == sorted(clip.clip_id for clip in clips)
    assert all(clip_id.split("/")[0] == name for name, entry in table.items() for clip_id in entry.clips())
    assert table == assign_clients(reversed(clips), ClientSettings(seed=seed))
    for name, entry in table.items():
        subset = people[name][1]
        assert subset == "" or entry.role == {"pretrain": "public", "trainval": "client", "test": "unseen"}[subset]
        filled = [split for split in SPLITS if entry.splits[split]]
        if entry.role == "unseen":
            assert filled == ["test"]
        elif entry.role == "public":
            assert filled in (["train"], ["validation"])
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
