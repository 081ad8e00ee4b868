"""Each person's role (client, public, volunteer or unseen), and the clips each trains, validates and tests on."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import replacing
from common.folders import RunFolder
from common.seeding import generator
from common.text.names import own_spelling
from preparation.corpora.clip import Clip, recording_of
from preparation.corpora.sources import by_recording, by_source
from preparation.corpora.twins import recordings_of, shared_by_people
from preparation.crops.pieces import crop_names, has_pieces
from preparation.quarantine import TWINS, QuarantineRow
from preparation.settings import ClientSettings, CorpusKind, CorpusSettings, HdtfSpeaker, SizeRule, SpeakerRule

Role = Literal["public", "client", "unseen", "volunteer"]
"""A volunteer is like the clients and gave the clips away: public data on which a federation's rounds are compared."""
SPLITS = ("train", "validation", "test")
ClientUnit = Literal["person", "client (several people)", "part of a person"]

SUBSET_ROLES: dict[str, Role] = {
    "pretrain": "public",
    "trainval": "client",
    "test": "unseen",
    "volunteers": "volunteer",
}
_STRICTEST_FIRST: tuple[Role, ...] = ("unseen", "client", "volunteer", "public")


@dataclass(frozen=True)
class Client:
    """One speaker's entry: `splits` maps each of train, validation and test to clip ids.

    `one_video` is True where one video is in several splits: all clips are cut from a single one, or the client has
    fewer than three recordings and is split by time (see `preparation.clients.timeline`).
    `people` names each clip's person where a client unites several people (see `preparation.clients.dealing`), else it
    is empty. `shares` names other speakers with the same recordings (see `preparation.corpora.twins`), who may be the
    same person. The table holds these three only where they are not empty or False.
    """

    role: Role
    speaker: str
    splits: dict[str, list[str]]
    one_video: bool = False
    people: dict[str, str] = field(default_factory=dict)
    shares: list[str] = field(default_factory=list)

    def clips(self) -> list[str]:
        return [clip for split in SPLITS for clip in self.splits.get(split, ())]

    def split_of(self, clip_id: str) -> str:
        return next(split for split in SPLITS if clip_id in self.splits[split])

    def person_of(self, clip_id: str) -> str:
        return self.people.get(clip_id, self.speaker)


ClientTable = dict[str, Client]


@dataclass(frozen=True)
class Assignment:
    """A table, and for each refused clip id the clip of another speaker that is the same recording and has a place."""

    table: ClientTable
    refused: dict[str, Clip]


def assign_clients(clips: Iterable[Clip], settings: ClientSettings | None = None) -> ClientTable:
    """Give every speaker a role and every clip a split; the same clips and seed give the same table.

    LRS3 and the studio say who is who by subset: pretrain is public, trainval are clients, test is unseen; a folder
    `volunteers` beside them, or `settings.volunteers`, names who gave clips for validation. A speaker found in two
    subsets takes the stricter role for all clips, so that no client's face trains the public backbone; so do speakers
    who have a recording in common, for they may be one person. In other corpora a seeded share of the speakers becomes
    public. Public speakers are held out whole for validation, volunteers do nothing else, clients split their own clips
    by the videos they were cut from, unseen people only test. With skewed sizes some clips are in no split; of a
    recording that several speakers have, only one speaker's copies are in a split: see `left_out`.
    """
    return assign(clips, settings).table


def assign(clips: Iterable[Clip], settings: ClientSettings | None = None, guests: Iterable[Clip] = ()) -> Assignment:
    """As `assign_clients`, together with the clips that are refused as copies. `guests` are clips of people who will
    join clients: they get no entry, but count as clients' clips where recordings are shared."""
    settings = settings or ClientSettings()
    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        by_speaker[clip.speaker].append(clip)
    everybody = [*(clip for own in by_speaker.values() for clip in own), *guests]
    roles = _roles(by_speaker, settings)
    every_role: dict[str, Role] = {**{clip.speaker: "client" for clip in everybody}, **roles}
    # Between equal roles, guests give way.
    rank = {who: 2 * _STRICTEST_FIRST.index(role) + (who not in roles) for who, role in every_role.items()}
    shared = shared_by_people(everybody, rank)
    for speaker, family in shared.kin.items():
        if speaker in roles:
            roles[speaker] = _STRICTEST_FIRST[min(rank[member] for member in family) // 2]
    placed = {
        speaker: [clip for clip in own if clip.clip_id not in shared.refused] for speaker, own in by_speaker.items()
    }
    public = [speaker for speaker, role in roles.items() if role == "public" and placed[speaker]]
    held_out = _held_out_public(public, settings)
    kept = skew_sizes({speaker: placed[speaker] for speaker in roles if roles[speaker] == "client"}, settings)
    table: ClientTable = {}
    for speaker, role in roles.items():
        own = kept.get(speaker, placed[speaker])
        if not own:
            continue  # all of the speaker's recordings count as others'
        ids = [clip.clip_id for clip in own]
        one_video = False
        splits: dict[str, list[str]] = {split: [] for split in SPLITS}
        if role == "unseen":
            splits["test"] = ids
        elif role == "volunteer":
            splits["validation"] = ids
        elif role == "public":
            splits["validation" if speaker in held_out else "train"] = ids
        else:
            splits, one_video = split_sources(speaker, own, settings)
        kin = [member for member in shared.kin.get(speaker, ()) if member != speaker]
        table[speaker] = Client(role, speaker, splits, one_video, shares=kin)
    return Assignment(table, shared.refused)


def split_sources(client: str, clips: list[Clip], settings: ClientSettings) -> tuple[dict[str, list[str]], bool]:
    """Split one client's clips so that those cut from one video stay together.

    The fractions count videos. With a single video, only copies of one recording stay together: its recordings are
    split one by one, and the second value is True where there are several.
    """
    videos = by_source(clips, settings.sources)
    one_video = len(videos) == 1
    units = by_recording(clips) if one_video else videos
    splits = split_clips(client, list(units), settings)
    return {split: sorted(clip for unit in splits[split] for clip in units[unit]) for split in SPLITS}, (
        one_video and len(units) > 1
    )


def skew_sizes(clips: dict[str, list[Clip]], settings: ClientSettings) -> dict[str, list[Clip]]:
    """The clips that each client keeps, a seeded choice; whole videos go first, so that neighbours stay together."""
    if settings.sizes is SizeRule.NATURAL:
        return clips
    shares = size_shares(sorted(clips), settings.sizes, settings.size_skew, settings.seed)
    kept: dict[str, list[Clip]] = {}
    for client, own in clips.items():
        wanted = max(1, round(len(own) * shares[client])) if own else 0
        videos = by_source(own, settings.sources)
        order = [clip for video in _shuffled(videos, settings.seed, f"size of {client}") for clip in videos[video]]
        chosen = set(order[:wanted])
        kept[client] = [clip for clip in own if clip.clip_id in chosen]
    return kept


def size_shares(clients: list[str], rule: SizeRule, skew: float, seed: int) -> dict[str, float]:
    """Relative sizes of the clients, the largest being 1."""
    if rule is SizeRule.NATURAL:
        return dict.fromkeys(clients, 1.0)
    if rule is SizeRule.ZIPF:
        order = _shuffled(clients, seed, "sizes")
        return {client: (place + 1.0) ** -skew for place, client in enumerate(order)}
    draws = {client: math.exp(skew * generator(seed, "sizes", client).standard_normal()) for client in clients}
    largest = max(draws.values(), default=1.0)
    return {client: draw / largest for client, draw in draws.items()}


def left_out(
    clips: Iterable[Clip], table: ClientTable, refused: Mapping[str, Clip] | None = None
) -> list[QuarantineRow]:
    """A row for each clip without a place, so that none vanishes silently: another speaker has the same recording
    (`refused`), or skewed sizes left it out. A copy that is kept beside its speaker's other one gets a row, too."""
    refused = refused or {}
    ordered = list(clips)
    placed = {clip for client in table.values() for clip in client.clips()}
    recordings = recordings_of(ordered)
    copies = Counter((clip.speaker, recordings.get(clip.clip_id)) for clip in ordered if clip.clip_id in placed)
    rows: list[QuarantineRow] = []
    for clip in ordered:
        if clip.clip_id in refused:
            other = refused[clip.clip_id].speaker
            reason = f"the same recording as a clip of {other}, with whom it counts; {clip.speaker} may be {other}"
            remedy = "if they are one person, put their clips into one folder; if not, remove the copy that is wrong"
            rows.append(QuarantineRow(clip.path, "clients", reason, remedy))
        elif clip.clip_id not in placed:
            reason = "left out to make the clients' sizes unequal"
            remedy = "set preparation.clients.sizes=natural to use every clip"
            rows.append(QuarantineRow(clip.path, "clients", reason, remedy))
        elif clip.clip_id in recordings and copies[clip.speaker, recordings[clip.clip_id]] > 1:
            reason = "the same recording as another clip of its speaker: both are kept, on one side of every split"
            rows.append(QuarantineRow(clip.path, TWINS, reason, "remove the copies if it is to count once"))
    return rows


def split_clips(client: str, clip_ids: list[str], settings: ClientSettings) -> dict[str, list[str]]:
    """Split one client's clips by the settings' fractions. Of three clips or more, every split gets at least one; of
    two, one trains and one tests."""
    count = len(clip_ids)
    validation = round(count * settings.validation_fraction)
    test = round(count * settings.test_fraction)
    if count >= 3:
        validation, test = max(1, validation), max(1, test)
        while validation + test > count - 1:
            validation, test = (validation - 1, test) if validation > test else (validation, test - 1)
    else:
        validation, test = 0, count - 1
    shuffled = _shuffled(clip_ids, settings.seed, f"split of {client}")
    return {
        "train": sorted(shuffled[validation + test :]),
        "validation": sorted(shuffled[:validation]),
        "test": sorted(shuffled[validation : validation + test]),
    }


def of_role(table: ClientTable, role: Role) -> list[str]:
    """The names of the clients with a role, sorted."""
    return sorted(name for name, client in table.items() if client.role == role)


def unit_of(table: ClientTable, settings: CorpusSettings | None = None, kind: CorpusKind | None = None) -> ClientUnit:
    """What a client of this table is, and so what a guarantee for "one client" means for a person.

    "person" only where each client has one person's clips, no person's clips are with two clients, and the corpus names
    people. LRS3 names videos instead, and so do HDTF with `hdtf_speaker=video` and a folder with `speaker_rule=stem`;
    a clip at a folder's root is a speaker of its own. There one person may have several names. Other corpora's folders
    are believed. Where both other answers apply, the weaker is given: a part of a person. `settings` and `kind` are
    those of the corpus; without them the table alone is believed.
    """
    clients = {name: entry for name, entry in table.items() if entry.role == "client"}
    people = {name: {entry.person_of(clip) for clip in entry.clips()} for name, entry in clients.items()}
    clients_of_person = Counter(person for members in people.values() for person in members)
    # People who share recordings may be one person.
    kin = any(
        not members.isdisjoint(entry.shares)
        for name, entry in clients.items()
        if entry.shares
        for other, members in people.items()
        if other != name
    )
    if kin or any(count > 1 for count in clients_of_person.values()) or _may_split_people(clients, settings, kind):
        return "part of a person"
    several = any(len(members) > 1 for members in people.values())
    return "client (several people)" if several else "person"


def _may_split_people(clients: ClientTable, settings: CorpusSettings | None, kind: CorpusKind | None) -> bool:
    """Whether the corpus's speaker names may split one person into several speakers."""
    if kind in (CorpusKind.LRS3, CorpusKind.MIX):  # a mix may hold such a part
        return True
    if kind is CorpusKind.HDTF:
        return settings is not None and settings.hdtf_speaker is HdtfSpeaker.VIDEO
    if kind is not CorpusKind.FOLDER or settings is None:
        return False
    # By AUTO, a clip at the root is named after its file: speaker and name are one.
    ids = [recording_of(clip) for entry in clients.values() for clip in entry.clips()]
    clips = [(clip.rpartition("/")[0], clip.rpartition("/")[2]) for clip in ids]
    flat = settings.speaker_rule is SpeakerRule.AUTO and any(speaker == name for speaker, name in clips)
    return settings.speaker_rule is SpeakerRule.STEM or flat


def save_clients(table: ClientTable, path: Path) -> None:
    with replacing(path) as partial:
        entries = {name: _entry(table[name]) for name in sorted(table)}
        partial.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def load_clients(path: Path) -> ClientTable:
    if not path.exists():
        raise PrivFedTalkError(f"there is no client table at {path}", remedy="prepare it first (`privfedtalk prepare`)")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: Client(**entry) for name, entry in entries.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path} is not a client table: {error}", remedy="delete it and assign again") from error


def load_people(run: RunFolder) -> ClientTable:
    """The table of people by the corpus's folders, before any dealing; a run that was never dealt has one table.

    The file lists recordings. Where crops were made of a recording's pieces, the pieces take its place, in its split.
    """
    table = load_clients(run.people_table if run.people_table.exists() else run.clients_table)
    speakers = {clip.rpartition("/")[0] for entry in table.values() for clip in entry.clips()}
    cut = {speaker for speaker in speakers if has_pieces(run.crops(speaker))}
    return {name: with_pieces(entry, run, cut) for name, entry in table.items()} if cut else table


def with_pieces(entry: Client, run: RunFolder, cut: Container[str]) -> Client:
    """An entry with pieces in place of the recordings that became pieces; `cut` names the speakers who have pieces."""

    def crops_of(clip: str) -> list[str]:
        speaker, _, name = recording_of(clip).rpartition("/")
        return [f"{speaker}/{crop}" for crop in crop_names(run.crops(speaker), name)] if speaker in cut else [clip]

    splits = {
        split: list(dict.fromkeys(crop for clip in ids for crop in crops_of(clip)))
        for split, ids in entry.splits.items()
    }
    people = {crop: who for clip, who in entry.people.items() for crop in crops_of(clip)}
    return replace(entry, splits=splits, people=people)


_ALWAYS = ("role", "speaker", "splits")


def _entry(client: Client) -> dict[str, Any]:
    return {name: value for name, value in asdict(client).items() if name in _ALWAYS or value}


def _roles(by_speaker: dict[str, list[Clip]], settings: ClientSettings) -> dict[str, Role]:
    roles: dict[str, Role] = dict.fromkeys(_volunteers(by_speaker, settings), "volunteer")
    undecided: list[str] = []
    for speaker, clips in by_speaker.items():
        if speaker in roles:
            continue
        named = {SUBSET_ROLES[clip.subset] for clip in clips if clip.subset in SUBSET_ROLES}
        if named:
            roles[speaker] = next(role for role in _STRICTEST_FIRST if role in named)
        else:
            undecided.append(speaker)
    count = round(len(undecided) * settings.public_speaker_fraction)
    for place, speaker in enumerate(_shuffled(undecided, settings.seed, "roles")):
        roles[speaker] = "public" if place < count else "client"
    named_clients = [speaker for speaker, role in roles.items() if role == "client"]
    count = min(round(len(named_clients) * settings.unseen_client_fraction), max(0, len(named_clients) - 1))
    for speaker in _shuffled(named_clients, settings.seed, "unseen")[:count]:
        roles[speaker] = "unseen"
    return {speaker: roles[speaker] for speaker in by_speaker}


def _volunteers(speakers: Iterable[str], settings: ClientSettings) -> list[str]:
    known = set(speakers)
    found: list[str] = []
    for name in settings.volunteers:
        own = own_spelling(name, known)
        if own is None:
            near = "".join(f"; did you mean '{close}'?" for close in get_close_matches(name, sorted(known), 1))
            raise PrivFedTalkError(
                f"preparation.clients.volunteers names '{name}', no speaker of the corpus (of a mix: its first part)",
                remedy=f"mend the name, or take it out{near}",
            )
        found.append(own)
    return found


def _held_out_public(public: list[str], settings: ClientSettings) -> set[str]:
    """Whole public speakers for validation: at least one when there are three, never all."""
    count = round(len(public) * settings.public_validation_fraction)
    if settings.public_validation_fraction > 0 and len(public) >= 3:
        count = max(1, count)
    count = min(count, max(0, len(public) - 1))
    return set(_shuffled(public, settings.seed, "public validation")[:count])


def _shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """A seeded order in which each name has a fixed draw, so that a newcomer moves hardly anyone else."""
    return sorted(names, key=lambda name: (generator(seed, purpose, name).random(), name))
