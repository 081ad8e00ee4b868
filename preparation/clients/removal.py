"""Remove what was made of clips that the corpus no longer holds; without a request it is kept.

A person may have withdrawn consent; then nothing of theirs may stay in the run except what models have learnt. But a
disk may also be missing for a day, or a list of clips be shorter for once, which must not cost a night of work. So
these are removed only on request (`preparation.corpus.forget_absent`, `privfedtalk prepare --forget`):

- the whole folder of a person who has no clip in the manifest (crops, shards, consent, own adapters), and imported
  adapters that were fitted to them; of a person who stays, the crops of the clips that are gone;
- shards that held such clips, which the shards step writes anew;
- tables, pages, videos, attacks and caches, whole, because they mix people; the next commands make them again;
- the person's name, wherever it is left (see `common.text.redaction`).

Models keep what they learnt from such clips until they are trained again: `training.adapters.membership` names those
models.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from common.folders import IDENTITIES, PANEL, RESULTS, RunFolder
from common.text.redaction import pseudonyms, redact_run
from preparation.clients.consent import people_of, read_consent
from preparation.clients.roles import Client, load_clients, save_clients
from preparation.corpora.clip import recording_of
from preparation.corpora.manifest import load_manifest
from preparation.crops.crop import forget_crop
from preparation.quarantine import load_quarantine, replace_rows

MIXED = ("evaluation", "attacks", "report", RESULTS, "clients_report", IDENTITIES)
"""Files and folders that are made of many people at once."""
OWN_FILES_STEPS = ("manifest", "cuts")
"""Steps whose quarantine rows are about files that are in the corpus now, since these steps have just been run."""
SIMULATED = re.compile(r"d+\d{4}")
"""Names of simulated clients, see `preparation.clients.dealing`."""


@dataclass(frozen=True)
class Absent:
    """How many clips that are gone had left something in the run, and how many people have no clip left."""

    clips: int
    people: int


@dataclass(frozen=True)
class AbsentNames:
    """The ids of the clips that are gone, and the names of the people who have no clip left."""

    clips: list[str]
    people: list[str]


def absent_names(run: RunFolder) -> AbsentNames:
    """Clips and people that are not in the manifest, but of which the run still holds something."""
    named: dict[str, set[str]] = {}
    for clip in load_manifest(run.manifest):
        named.setdefault(clip.speaker, set()).add(clip.name)
    table = load_clients(run.clients_table) if run.clients_table.exists() else {}
    clips, people = [], []
    for folder in sorted(run.root.glob("clients/*")):
        person = folder.name
        if (folder / "crops").is_dir():
            clips += [f"{person}/{name}" for name in sorted(_names(folder / "crops") - named.get(person, set()))]
        elif person in table and table[person].people:
            continue  # a simulated client has only shards, which `preparation.clients.dealing` removes
        if person not in named:
            people.append(person)
    simulated = {name for name, entry in table.items() if entry.people and name not in named}
    others = ({*table} | _participants(run)) - {*named, *people} - simulated
    people += sorted(name for name in others if not SIMULATED.fullmatch(name))
    return AbsentNames(clips, people)


def settle_absent(run: RunFolder, forget: bool) -> Absent:
    """Report in one line what the run holds of clips that are not in its manifest; with `forget`, remove it."""
    gone = absent_names(run)
    if not gone.clips and not gone.people:
        return Absent(0, 0)
    whose = f" and the folders of {len(gone.people)} of their people" if gone.people else ""
    what = f"what was made of {len(gone.clips)} clips that the corpus no longer holds{whose}"
    if not forget:
        sys.stderr.write(f"kept {what}; `privfedtalk prepare --forget` removes it\n")
    else:
        _forget(run, gone)
        sys.stderr.write(
            f"removed {what}; so are all tables, pages, videos and attacks of the run, for they mix people: the next "
            "commands make them again\n"
        )
    return Absent(len(gone.clips), len(gone.people))


def _forget(run: RunFolder, gone: AbsentNames) -> None:
    """Remove all of it. People's folders go last, so that an interrupted removal continues when it is asked again."""
    people, clips = set(gone.people), set(gone.clips)
    table = load_clients(run.clients_table) if run.clients_table.exists() else {}
    for name in MIXED:
        _remove(run.root / name)
    if any(name not in table or table[name].role == "public" for name in people):
        _remove(run.root / "pictures")
    if _on_panel(run, people, clips):
        _remove(run.nightly)
    for facts in run.root.glob("imported/*/privfedtalk.json"):
        if json.loads(facts.read_text(encoding="utf-8")).get("client") in people:
            _remove(facts.parent)
    remaining = {name: _without(entry, people, clips) for name, entry in table.items() if name not in people}
    for name, entry in remaining.items():
        if entry == table[name]:
            continue
        _remove(run.shards(name))
        # A record of several people names them all; the own records of those who remain decide without it.
        record = read_consent(run, name)
        if people & set(people_of(name, table[name])) and record is not None and record.revoked is None:
            run.consent(name).unlink()
    if remaining != table:
        save_clients(remaining, run.clients_table)
    _drop_rows(run)
    for state in run.root.glob("federation/*/checkpoint/state.json"):
        # The checkpoint is of exactly these clients: without one of them no federation continues from it.
        fingerprint = json.loads(state.read_text(encoding="utf-8"))["fingerprint"]
        if any(re.search(rf"-{re.escape(name)}(-|$)", fingerprint) for name in people):
            _remove(state.parent)
    redact_run(run.root, pseudonyms(run.root, gone.people), gone.clips)
    for clip in clips:
        person, _, name = clip.rpartition("/")
        if person not in people:
            forget_crop(run.crops(person), name)
    for person in gone.people:
        _remove(run.client(person))


def _without(entry: Client, people: set[str], clips: set[str]) -> Client:
    """A client without the clips that are gone and without the clips of people who are gone."""

    def stays(clip: str) -> bool:
        return (
            recording_of(clip) not in clips
            and entry.person_of(clip) not in people
            and clip.rpartition("/")[0] not in people
        )

    splits = {split: [clip for clip in ids if stays(clip)] for split, ids in entry.splits.items()}
    owners = {clip: who for clip, who in entry.people.items() if stays(clip)}
    return replace(entry, splits=splits, people=owners, shares=[who for who in entry.shares if who not in people])


def _on_panel(run: RunFolder, people: set[str], clips: set[str]) -> bool:
    """Whether the nightly evaluations show any of them, by their panel; without a panel, whether there are any.

    Private people are never on the panel, so removing them keeps the nights.
    """
    panel = run.nightly / PANEL
    if not panel.exists():
        return run.nightly.exists()
    entries = json.loads(panel.read_text(encoding="utf-8"))
    return any(one["person"] in people or recording_of(one["clip_id"]) in clips for one in entries)


def _drop_rows(run: RunFolder) -> None:
    """Remove quarantine rows about files that are not in the manifest."""
    rows = load_quarantine(run.quarantine)
    known = {name for clip in load_manifest(run.manifest) for name in (clip.path, clip.clip_id)}
    # The shards step calls a piece by its id; all other steps name paths.
    files = [recording_of(row.file) if row.step == "shards" else row.file for row in rows]
    stay = [row for row, file in zip(rows, files, strict=True) if row.step in OWN_FILES_STEPS or file in known]
    if len(stay) < len(rows):
        replace_rows(run.quarantine, {row.step for row in rows}, stay)


def _participants(run: RunFolder) -> set[str]:
    """Everybody who was asked to train, by the federations' participant files; their folders may already be gone."""
    names: set[str] = set()
    for path in run.root.glob("federation/*/participants.json"):
        note = json.loads(path.read_text(encoding="utf-8"))
        names |= {*note.get("clients", ()), *note.get("left_out", ())}
    return {name for name in names if not name.startswith("forgotten-")}


def _names(crops: Path) -> set[str]:
    """The names of clips that have any file in a crops folder, if only of a piece; a clip's name has no dot, and a file
    that begins with one is being written."""
    found = [*crops.iterdir(), *(crops / "refused").glob("*.json"), *(crops / "pieces").glob("*.json")]
    names = {path.name.partition(".")[0] for path in found if path.is_file() and not path.name.startswith(".")}
    return {recording_of(name) for name in names}


def _remove(path: Path) -> None:
    """Remove a file, a folder, or a link to one."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=not path.exists())
