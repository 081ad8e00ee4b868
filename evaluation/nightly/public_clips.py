"""The fixed panel: clips that everybody may look at, of people whom no model was trained on.

The panel has public speakers who are held out whole from the backbone's training, and the people of the corpus's own
test subset; it never has private people. It is chosen once and kept in `nightly/panel.json`, so a growing corpus does
not change it. A clip that has changed since is an error, because nights could not be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from common import seeding
from common.errors import PrivFedTalkError
from common.files import write_text
from common.folders import PANEL, SHARD_INDEX, RunFolder
from evaluation.measuring.clips import read_clip
from evaluation.metrics.clip import EvaluationClip
from evaluation.nightly.settings import NightlySettings
from preparation.clients.roles import load_clients
from preparation.corpora.manifest import load_manifest
from preparation.shards.gate import Gate

PUBLISHED_SUBSET = "test"
"""The subset of LRS3, and of the studio's corpus, that is published for evaluation."""


@dataclass(frozen=True)
class PanelClip:
    """A clip of the panel: where it is found, and `content`, sixteen hex digits of its frames, sound and reference."""

    clip_id: str
    person: str
    split: str
    content: str


def read_panel(run: RunFolder, settings: NightlySettings, seed: int) -> tuple[list[EvaluationClip], str]:
    """The panel's clips, the same in every night, and a digest of them, sixteen hex digits.

    The first night chooses them. People who may no longer be generated leave the panel, whose digest then changes.
    Raises PrivFedTalkError where a clip is missing or has changed since.
    """
    path = run.nightly / PANEL
    if not path.exists():
        chosen = _choose(run, settings, seed)
        write_text(path, json.dumps([asdict(entry) for entry, _ in chosen], indent=1) + "\n")
        return [clip for _, clip in chosen], _digest([entry for entry, _ in chosen])
    kept = [PanelClip(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    agreed = set(_gate(run).admit(dict.fromkeys(entry.person for entry in kept), "the nightly panel"))
    panel = [entry for entry in kept if entry.person in agreed]
    _check_people(run, panel)
    found: dict[str, EvaluationClip] = {}
    for person, split in {entry.person: entry.split for entry in panel}.items():
        found |= {clip.clip_id: clip for clip in _clips(run, person, split)}
    for entry in panel:
        clip = found.get(entry.clip_id)
        if clip is None or _content(clip) != entry.content:
            raise PrivFedTalkError(
                f"{entry.clip_id} of {path} is {'not there any more' if clip is None else 'not what it was'}",
                remedy="bring back the clip and its preparation, or remove panel.json: then other clips are chosen, "
                "and nights are compared from there on",
            )
    return [found[entry.clip_id] for entry in panel], _digest(panel)


def _choose(run: RunFolder, settings: NightlySettings, seed: int) -> list[tuple[PanelClip, EvaluationClip]]:
    table = load_clients(run.clients_table)
    published = {clip.speaker for clip in load_manifest(run.manifest) if clip.subset == PUBLISHED_SUBSET}
    splits = {
        name: "validation" if person.role == "public" else "test"
        for name, person in table.items()
        if (person.role == "public" and person.splits["validation"])
        or (person.role == "unseen" and person.speaker in published)
    }
    agreed = _gate(run).admit(sorted(splits), "the nightly panel")
    drawn = sorted(agreed, key=lambda name: (seeding.generator(seed, "nightly panel", name).random(), name))
    chosen: list[tuple[PanelClip, EvaluationClip]] = []
    for name in sorted(drawn[: settings.people]):
        chosen += [
            (PanelClip(clip.clip_id, name, splits[name], _content(clip)), clip)
            for clip in islice(_clips(run, name, splits[name]), settings.clips_per_person)
        ]
    _check_people(run, [entry for entry, _ in chosen])
    return chosen


def _check_people(run: RunFolder, panel: list[PanelClip]) -> None:
    if len({entry.person for entry in panel}) < 2:
        raise PrivFedTalkError(
            f"{run.root} has clips of fewer than two public people whom no model was trained on and who may be shown",
            remedy="raise preparation.clients.public_validation_fraction, or add a test subset to the corpus",
        )


def _gate(run: RunFolder) -> Gate:
    """The consent gate. Nobody on the panel is a client, so a missing consent record excludes nobody."""
    return Gate(run, "generation", required=False)


def _clips(run: RunFolder, person: str, split: str) -> Iterator[EvaluationClip]:
    if not (run.shards(person) / SHARD_INDEX).exists():
        return
    gate = _gate(run)
    for sample in gate.samples(person, split):
        yield read_clip(gate, sample, "unseen")  # strangers to every model


def _content(clip: EvaluationClip) -> str:
    whole = hashlib.sha256()
    for array in (clip.frames, clip.audio, clip.reference):
        whole.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return whole.hexdigest()[:16]


def _digest(panel: list[PanelClip]) -> str:
    return hashlib.sha256(json.dumps([asdict(entry) for entry in panel]).encode()).hexdigest()[:16]
