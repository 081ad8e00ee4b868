"""Who is a client, who is public, who stays unseen; and which clips each trains, validates and tests on."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from preparation.errors import CorruptFileError, PrivFedTalkError
from preparation.manifest import Clip
from preparation.seeding import generator
from preparation.settings import ClientSettings

Role = Literal["public", "client", "unseen"]
SPLITS = ("train", "validation", "test")

SUBSET_ROLES: dict[str, Role] = {"pretrain": "public", "trainval": "client", "test": "unseen"}
_STRICTEST_FIRST = ("unseen", "client", "public")


@dataclass(frozen=True)
class Client:
    """One speaker's entry: `splits` maps each of train, validation and test to clip ids."""

    role: Role
    speaker: str
    splits: dict[str, list[str]]

    def clips(self) -> list[str]:
        return [clip for split in SPLITS for clip in self.splits[split]]

    def split_of(self, clip_id: str) -> str:
        return next(split for split in SPLITS if clip_id in self.splits[split])


ClientTable = dict[str, Client]


def assign_clients(clips: Iterable[Clip], settings: ClientSettings | None = None) -> ClientTable:
    """Give every speaker a role and every clip a split; the same clips and seed give the same table.

    LRS3 and the studio say who is who by subset: pretrain is public, trainval are clients, test is unseen. A
    speaker found in two subsets takes the stricter role for all clips, so that no client's face trains the
    public backbone. In other corpora a seeded share of the speakers becomes public. Public speakers are held
    out whole for validation, clients split their own clips, unseen people only test.
    """
    settings = settings or ClientSettings()
    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        by_speaker[clip.speaker].append(clip)
    roles = _roles(by_speaker, settings)
    public = [speaker for speaker, role in roles.items() if role == "public"]
    held_out = _held_out_public(public, settings)
    table: ClientTable = {}
    for speaker, role in roles.items():
        ids = [clip.clip_id for clip in by_speaker[speaker]]
        splits: dict[str, list[str]] = {split: [] for split in SPLITS}
        if role == "unseen":
            splits["test"] = ids
        elif role == "public":
            splits["validation" if speaker in held_out else "train"] = ids
        else:
            splits = split_clips(speaker, ids, settings)
        table[speaker] = Client(role, speaker, splits)
    return table


def split_clips(client: str, clip_ids: list[str], settings: ClientSettings) -> dict[str, list[str]]:
    """Split one client's clips. From three clips on, every split gets one; of two, one trains and one
    tests."""
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


def save_clients(table: ClientTable, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    entries = {name: asdict(table[name]) for name in sorted(table)}
    partial.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)


def load_clients(path: Path) -> ClientTable:
    if not path.exists():
        raise PrivFedTalkError(f"there is no client table at {path}", remedy="run the clients step first")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: Client(**entry) for name, entry in entries.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path} is not a client table: {error}", remedy="delete it and assign again") from error


def _roles(by_speaker: dict[str, list[Clip]], settings: ClientSettings) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    undecided: list[str] = []
    for speaker, clips in by_speaker.items():
        named = {SUBSET_ROLES[clip.subset] for clip in clips if clip.subset in SUBSET_ROLES}
        if named:
            roles[speaker] = next(role for role in _STRICTEST_FIRST if role in named)
        else:
            undecided.append(speaker)
    count = round(len(undecided) * settings.public_speaker_fraction)
    for place, speaker in enumerate(_shuffled(undecided, settings.seed, "roles")):
        roles[speaker] = "public" if place < count else "client"
    return {speaker: roles[speaker] for speaker in by_speaker}


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
