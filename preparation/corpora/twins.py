"""Clips that are the same recording: copies under other names, re-muxed, or with the same sound or pictures.

    the same bytes                      a copy
    the same packets of pictures        a copy in another container, or with another sound
    the same packets of sound           a copy in another size, with its sound unchanged

Packets are hashed as they are stored, so that nothing need be decoded. A copy whose pictures and sound were both
re-encoded is not found here (`preparation.clients.identity` compares faces). Sound counts only where it is more than
silence: half of its packets must differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from preparation.corpora.clip import Clip

FEWEST_SOUNDS = 8
"""Fewest distinct packets of sound that count: fewer are silence, a click or a hum."""
LOOKED_AT = 4096
"""How many packets are searched for distinct ones, so that memory does not grow with the file."""


class PacketDigest:
    """Hashes the packets of one track, one after the other."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()
        self._count = 0
        self._different: set[bytes] = set()

    def note(self, packet: Any) -> None:
        """Add a packet (PyAV's); an empty one is ignored."""
        if packet.size:
            own = hashlib.sha256(bytes(packet)).digest()
            self._total.update(own)  # a digest of digests: where one packet ends matters
            self._count += 1
            if self._count <= LOOKED_AT:
                self._different.add(own)

    @property
    def pictures(self) -> str:
        """The hex digest of all packets; "" where there was none."""
        return self._total.hexdigest() if self._count else ""

    @property
    def sound(self) -> str:
        """The same digest; "" where too few packets are distinct for more than silence."""
        distinct_enough = len(self._different) >= max(FEWEST_SOUNDS, min(self._count, LOOKED_AT) // 2)
        return self.pictures if distinct_enough else ""


def recordings_of(clips: Iterable[Clip]) -> dict[str, str]:
    """The recording of each clip that has a twin, by clip id: the smallest clip id of the twins.

    The relation is transitive: of three files, two may share pictures and two the sound.
    """
    ids = sorted(clips, key=lambda clip: clip.clip_id)
    first_with: dict[tuple[str, str], str] = {}
    linked: dict[str, str] = {clip.clip_id: clip.clip_id for clip in ids}
    for clip in ids:
        for key in _keys(clip):
            one, other = sorted((_root(linked, clip.clip_id), _root(linked, first_with.setdefault(key, clip.clip_id))))
            linked[other] = one
    roots = {clip_id: _root(linked, clip_id) for clip_id in linked}
    sizes = Counter(roots.values())
    return {clip_id: root for clip_id, root in roots.items() if sizes[root] > 1}


@dataclass(frozen=True)
class Shared:
    """Recordings that people share. `kin`: for each speaker who shares recordings, all speakers linked by them, itself
    included; `refused`: for each clip id without a place, another speaker's clip of the same recording, which has one.
    """

    kin: dict[str, list[str]]
    refused: dict[str, Clip]


def shared_by_people(clips: Iterable[Clip], rank: Mapping[str, int]) -> Shared:
    """Who share recordings, and whose copy counts: that of the speaker of the lowest rank, then the first by name.

    `rank` orders speakers by how strictly their clips must be kept from others' training, the strictest first.
    """
    by_id = {clip.clip_id: clip for clip in clips}
    copies: dict[str, list[Clip]] = defaultdict(list)
    for clip_id, recording in recordings_of(by_id.values()).items():
        copies[recording].append(by_id[clip_id])
    linked = {speaker: speaker for speaker in rank}
    refused: dict[str, Clip] = {}
    for group in copies.values():
        group.sort(key=lambda clip: (rank[clip.speaker], clip.speaker, clip.clip_id))
        kept = group[0]
        for clip in group:
            if clip.speaker != kept.speaker:
                refused[clip.clip_id] = kept
                one, other = sorted((_root(linked, clip.speaker), _root(linked, kept.speaker)))
                linked[other] = one
    families: dict[str, list[str]] = defaultdict(list)
    for speaker in sorted(linked):
        families[_root(linked, speaker)].append(speaker)
    return Shared({who: family for family in families.values() if len(family) > 1 for who in family}, refused)


def copies_of(clips: Iterable[Clip], others: Iterable[Clip]) -> list[str]:
    """Ids of those of the clips that are a recording of another corpus, sorted."""
    known = {key for other in others for key in _keys(other)}
    return sorted(clip.clip_id for clip in clips if not known.isdisjoint(_keys(clip)))


def _keys(clip: Clip) -> list[tuple[str, str]]:
    prints = {"bytes": clip.sha256, "pictures": clip.pictures_sha256, "sound": clip.sound_sha256}
    return [(kind, print_) for kind, print_ in prints.items() if print_]


def _root(linked: dict[str, str], clip_id: str) -> str:
    while linked[clip_id] != clip_id:
        linked[clip_id] = linked[linked[clip_id]]
        clip_id = linked[clip_id]
    return clip_id
