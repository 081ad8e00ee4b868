"""Guests from other corpora join the clients of the first one, as the paper merges HDTF into LRS3 clients (sec. 5.1).

Roles, splits and sizes of the first part's people are those of a run without guests, so that both runs can be
compared. A guest keeps its own name, and its crops their own folder; the client's `people` say whose clip is whose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from common.errors import PrivFedTalkError
from common.seeding import generator
from preparation.clients.roles import SPLITS, ClientTable, assign, left_out, of_role, split_clips
from preparation.corpora.clip import Clip
from preparation.corpora.parts import read_parts
from preparation.corpora.sources import by_source, source_keys
from preparation.quarantine import QuarantineRow
from preparation.settings import ClientSettings, CorpusKind, MixSettings, PreparationSettings, Unit


def assign_people(
    kind: CorpusKind | str, root: Path, clips: list[Clip], settings: PreparationSettings
) -> tuple[ClientTable, list[QuarantineRow]]:
    """The table of any corpus, with guests where it is a mix, and a row for each clip that has no place in it."""
    if CorpusKind(kind) is not CorpusKind.MIX:
        assigned = assign(clips, settings.clients)
        return assigned.table, left_out(clips, assigned.table, assigned.refused)
    host = next(iter(read_parts(root)))
    return join_guests(clips, host, settings.mix, settings.clients)


def join_guests(
    clips: Iterable[Clip], host: str, settings: MixSettings, splitting: ClientSettings
) -> tuple[ClientTable, list[QuarantineRow]]:
    """Deal the clips of all parts but `host` to its training clients; its public and unseen people get no guests.

    Guests are dealt whole, as people or as videos, each by a draw of its own, so that a new guest moves nobody else.
    """
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    own = [clip for clip in ordered if PurePosixPath(clip.path).parts[0] == host]
    others = [clip for clip in ordered if PurePosixPath(clip.path).parts[0] != host]
    assigned = assign(own, splitting, others)
    table, refused = assigned.table, assigned.refused
    others = [clip for clip in others if clip.clip_id not in refused]
    keys = source_keys(others, splitting.sources)
    guests: dict[str, list[Clip]] = defaultdict(list)
    for clip in others:
        guests[clip.speaker if settings.unit is Unit.PERSON else keys[clip.clip_id]].append(clip)
    seed = splitting.seed
    hosts = _drawn(of_role(table, "client"), settings.client_share, seed, "hosts")
    if not hosts:
        raise PrivFedTalkError(
            f"no client of the part '{host}' can be joined by guests",
            remedy="name the part with training clients first (LRS3: trainval), or raise preparation.mix.client_share",
        )
    joined: dict[str, list[Clip]] = defaultdict(list)
    for guest in _drawn(list(guests), settings.guest_share, seed, "guests"):
        joined[hosts[generator(seed, "host of", guest).integers(len(hosts))]].extend(guests[guest])
    for client, guest_clips in joined.items():
        videos = by_source(guest_clips, splitting.sources)
        given = split_clips(f"guests of {client}", list(videos), splitting)
        splits = {
            split: sorted([*table[client].splits[split], *(clip for video in given[split] for clip in videos[video])])
            for split in SPLITS
        }
        people = {clip.clip_id: clip.speaker for clip in guest_clips}
        table[client] = replace(table[client], splits=splits, people=dict(sorted(people.items())))
    present = {clip.clip_id for guest_clips in joined.values() for clip in guest_clips}
    reason = "not among the guests that the mix draws"
    remedy = "raise preparation.mix.guest_share to draw more"
    rows = [
        QuarantineRow(clip.path, "clients", reason, remedy)
        for guest_clips in guests.values()
        for clip in guest_clips
        if clip.clip_id not in present
    ]
    absent = {clip.clip_id for clip in others} - present
    there = [clip for clip in ordered if clip.clip_id not in absent]
    return table, [*left_out(there, table, refused), *rows]


def _drawn(names: list[str], share: float, seed: int, purpose: str) -> list[str]:
    """A seeded share of the names, sorted; at least one, unless the share is 0."""
    order = sorted(names, key=lambda name: (generator(seed, "mix", purpose, name).random(), name))
    count = round(share * len(order))
    return sorted(order[: max(count, 1) if share > 0 else 0])
