"""Splits by time: blocks without overlap, with gaps, near the wanted shares, the same every time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from preparation.clients.roles import SPLITS, Client, assign_clients
from preparation.clients.timeline import (
    Timed,
    close_neighbours,
    few_recordings,
    plan_cuts,
    split_samples,
    time_blocks,
)
from preparation.corpora.clip import Clip, piece_name, recording_of
from preparation.crops.cutting import cut_recording
from preparation.settings import ClientSettings, PreparationSettings, SourceRule
from preparation.settings.samples import SampleSettings

SHARES = ClientSettings()
GAP = 25


def recording(name: str, seconds: float, speaker: str = "ann", corpus: str = "folder", print_: str = "") -> Clip:
    return Clip(
        clip_id=f"{speaker}/{name}", speaker=speaker, path=f"{speaker}/{name}.mp4", corpus=corpus, subset="trainval",
        frames=round(seconds * 30), fps=30.0, width=64, height=64, seconds=seconds, audio_rate_hz=16000, bytes=1,
        sha256=print_ or f"{speaker}/{name}", sidecar=None, truth=None,
    )  # fmt: skip


def table_of(clips: list[Clip]) -> dict[str, Client]:
    return assign_clients(clips, ClientSettings(public_speaker_fraction=0))


def planned(**settings: Any) -> PreparationSettings:
    return PreparationSettings(clients=ClientSettings(public_speaker_fraction=0), samples=SampleSettings(**settings))


def cut(clips: list[Clip], settings: PreparationSettings) -> tuple[list[Clip], dict[str, slice]]:
    """The samples of recordings that show a face all the time, cut as planned, and the places of the pieces."""
    plans, rows, places = plan_cuts(clips, table_of(clips), settings), [], {}
    for clip in clips:
        plan, frames = plans.get(clip.clip_id), round(clip.seconds * 25)
        if plan is None or (frames <= plan.longest and not plan.borders):
            rows.append(clip)
            continue
        levels = np.random.default_rng(frames).uniform(size=frames)
        for number, piece in enumerate(cut_recording([slice(0, frames)], levels, plan)):
            clip_id = f"{clip.speaker}/{piece_name(clip.name, number)}"
            rows.append(Clip(**{**vars(clip), "clip_id": clip_id, "seconds": (piece.stop - piece.start) / 25}))
            places[clip_id] = piece
    return rows, places


@pytest.mark.parametrize(
    "lengths",
    [[5.2], [6], [7.5], [12], [19], [50], [71], [600], [40, 3], [3, 3], [9, 8], [30, 30], [2.1, 9], [60, 1.5]],
)
def test_a_client_of_few_recordings_has_every_split(lengths: list[float]) -> None:
    clips = [recording(f"talk{number}", seconds) for number, seconds in enumerate(lengths)]
    settings = planned()
    rows, places = cut(clips, settings)
    splits, several = split_samples("ann", rows, places, settings.clients, GAP)
    assert all(splits[split] for split in SPLITS)
    placed = [clip for split in SPLITS for clip in splits[split]]
    assert len(placed) == len(set(placed))
    assert set(placed) == {row.clip_id for row in rows}, "the gaps are planned, so that no piece is lost"
    assert several == (len({recording_of(clip) for clip in placed}) < sum(len({*map(recording_of, splits[split])})
                       for split in SPLITS))  # fmt: skip
    table = {"ann": Client("client", "ann", splits, several)}
    assert close_neighbours(table, places, GAP) == []

    # In order: everything of train, then of validation, then of test.
    order = sorted(rows, key=lambda row: (recording_of(row.clip_id), places.get(row.clip_id, slice(0, 0)).start))
    sides = [SPLITS.index(table["ann"].split_of(row.clip_id)) for row in order]
    assert sides == sorted(sides)
    seconds = {split: sum(row.seconds for row in rows if row.clip_id in splits[split]) for split in SPLITS}
    if sum(lengths) > 20:
        assert seconds["train"] / sum(lengths) == pytest.approx(0.5, abs=0.15)
        assert seconds["validation"] / sum(lengths) == pytest.approx(0.25, abs=0.15)
    assert sum(seconds.values()) >= sum(lengths) - 2 - 1e-6, "no more than two gaps are lost"
    assert min(row.seconds for row in rows) >= 1
    assert len(splits["train"]) >= 2 or sum(lengths) < 8, "a reference comes from another training sample"
    assert (splits, several) == split_samples("ann", list(reversed(rows)), places, settings.clients, GAP)


@pytest.mark.parametrize("lengths", [[1.2], [4], [4.9], [2, 2], [1.2, 1.2]])
def test_what_is_too_short_for_three_blocks_is_split_as_ever(lengths: list[float]) -> None:
    clips = [recording(f"talk{number}", seconds) for number, seconds in enumerate(lengths)]
    settings = planned()
    assert all(not plan.borders for plan in plan_cuts(clips, table_of(clips), settings).values())
    rows, places = cut(clips, settings)
    assert rows == clips and not places
    splits, several = split_samples("ann", rows, places, settings.clients, GAP)
    assert {split: len(ids) for split, ids in splits.items()} == {
        "train": 1, "validation": 0, "test": len(lengths) - 1
    } and not several  # fmt: skip


def test_three_recordings_are_split_by_recordings_and_cut_without_borders() -> None:
    clips = [recording(f"talk{number}", 30) for number in range(3)]
    settings = planned()
    plans = plan_cuts(clips, table_of(clips), settings)
    assert {(plan.shortest, plan.longest, plan.borders) for plan in plans.values()} == {(75, 250, ())}
    rows, places = cut(clips, settings)
    splits, several = split_samples("ann", rows, places, settings.clients, GAP)
    assert not several and len(rows) > 9
    assert [len({*map(recording_of, splits[split])}) for split in SPLITS] == [1, 1, 1]


def test_only_plain_folders_are_cut_unless_asked() -> None:
    clips = [recording("a", 60, corpus=kind, speaker=kind) for kind in ("folder", "lrs3", "hdtf", "studio")]
    table = table_of(clips)
    assert set(plan_cuts(clips, table, planned())) == {"folder/a"}
    assert len(plan_cuts(clips, table, planned(cut="always"))) == 4
    assert plan_cuts(clips, table, planned(cut="never")) == {}


def test_whoever_is_held_out_whole_needs_no_border() -> None:
    clips = [recording("a", 60, speaker=name) for name in ("ann", "bob")]
    splits = {name: {"train": [], "validation": [], "test": [f"{name}/a"]} for name in ("ann", "bob")}
    table = {"ann": Client("unseen", "ann", splits["ann"]), "bob": Client("client", "bob", splits["bob"])}
    plans = plan_cuts(clips, table, planned())
    assert plans["ann/a"].borders == () and len(plans["bob/a"].borders) == 2


def test_copies_of_one_recording_count_once_and_are_used_once() -> None:
    clips = [recording("a", 40, print_="same"), recording("b", 40, print_="same"), recording("c", 40)]
    assert few_recordings(clips, SourceRule.AUTO) and not few_recordings([*clips, recording("d", 9)], SourceRule.AUTO)
    settings = planned()
    rows, places = cut(clips, settings)
    splits, _ = split_samples("ann", rows, places, settings.clients, GAP)
    assert {recording_of(clip) for ids in splits.values() for clip in ids} == {"ann/a", "ann/c"}


def test_cuts_of_one_video_follow_each_other() -> None:
    """With names that number a video's cuts, pieces on both sides of a file's end are neighbours, too."""
    talks = [recording("talk_0", 16), recording("talk_1", 16)]
    places = {f"{talk.clip_id}@{number:03d}": slice(100 * number, 100 * number + 100)
              for talk in talks for number in range(4)}  # fmt: skip
    rows = [Clip(**{**vars(talk), "clip_id": name}) for talk in talks for name in places
            if recording_of(name) == talk.clip_id]  # fmt: skip
    assert few_recordings(talks, SourceRule.NUMBERED) and few_recordings(talks, SourceRule.AUTO)
    # The end of a file is a border without a loss only where the next file is another video.
    for rule, used in ((SourceRule.NUMBERED, 6), (SourceRule.AUTO, 7)):
        splits, several = split_samples("ann", rows, places, ClientSettings(sources=rule), GAP)
        assert several and all(splits.values()) and sum(map(len, splits.values())) == used < len(rows) == 8


def test_guests_of_a_mix_are_cut_and_their_hosts_are_not() -> None:
    host, guest = recording("00001", 20, "host", "lrs3"), recording("talk", 40, "guest")
    splits = {"train": ["host/00001"], "validation": [], "test": ["guest/talk"]}
    table = {"host": Client("client", "host", splits, people={"guest/talk": "guest"})}
    plans = plan_cuts([host, guest], table, planned())
    assert set(plans) == {"guest/talk"} and plans["guest/talk"].borders


def brute_force(samples: list[Timed], gap: int) -> float | None:
    """The smallest cost of all triples of contiguous blocks that are far enough apart."""
    total = sum(sample.frames for sample in samples)
    wanted, costs, count = (0.5 * total, 0.25 * total, 0.25 * total), [], len(samples)
    for a in range(1, count):
        for b in range(a, count):
            for c in range(b + 1, count):
                for d in range(c, count):
                    if samples[b].start - samples[a - 1].stop >= gap and samples[d].start - samples[c - 1].stop >= gap:
                        parts = [sum(one.frames for one in samples[x:y]) for x, y in ((0, a), (b, c), (d, count))]
                        costs.append(sum(map(abs, np.subtract(parts, wanted))) + total - sum(parts))
    return min(costs, default=None)


@pytest.mark.parametrize("seed", range(30))
def test_no_other_blocks_are_nearer_to_the_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples, clock = [], 0
    for number in range(int(rng.integers(1, 9))):
        clock += int(rng.choice([0, 0, 5, 30]))
        length = int(rng.integers(5, 60))
        samples.append(Timed(f"a@{number:03d}", "a", clock, clock + length))
        clock += length
    found, best = time_blocks(samples, SHARES, GAP), brute_force(samples, GAP)
    if best is None:
        assert found is None
        return
    assert found is not None
    by_id = {sample.clip_id: sample for sample in samples}
    total = sum(sample.frames for sample in samples)
    parts = [sum(by_id[name].frames for name in found[split]) for split in SPLITS]
    cost = sum(map(abs, np.subtract(parts, (0.5 * total, 0.25 * total, 0.25 * total)))) + total - sum(parts)
    assert cost == pytest.approx(best)
    for one, other in pairwise(SPLITS):
        assert by_id[found[other][0]].start - by_id[found[one][-1]].stop >= GAP


def test_close_neighbours_are_named() -> None:
    places = {"a/x@000": slice(0, 100), "a/x@001": slice(110, 200), "a/x@002": slice(225, 300)}
    splits = {"train": ["a/x@000"], "validation": ["a/x@001"], "test": ["a/x@002", "a/y"]}
    table = {"a": Client("client", "a", splits)}
    assert close_neighbours(table, places, GAP) == ["a/x@000 (a/train) and a/x@001 (a/validation)"]
    assert close_neighbours(table, places, 10) == []


def test_ids_of_pieces_lead_back_to_their_recording() -> None:
    for clip_id in ("ann/talk", "ann/talk@000", "ann/talk@1234", "ann/talk@003@250"):
        assert recording_of(clip_id) == "ann/talk"
    assert recording_of("ann/me@home") == "ann/me@home"


def test_lengths_that_cannot_cut_everything_are_refused_with_both_values() -> None:
    with pytest.raises(ValueError, match="longest_seconds 5 is less than twice shortest_seconds 3"):
        SampleSettings(longest_seconds=5)
