"""What was made of clips that the corpus no longer holds: kept by default, removed where that is asked for.

A person may have withdrawn consent; then nothing of them may stay in the run but what models have learnt. But a disk
may also be missing for a day, or a list of clips be narrower for once, and nobody's night of work should go with that.
So it is removed only on request (`preparation.corpus.forget_absent`, `privfedtalk prepare --forget`):

- the whole folder of a person of whom the manifest names no clip (crops, shards, consent, own adapters), and imported
  adapters that were fitted to them; of a person who stays, the crops of the clips that are gone;
- shards that held such clips, which the shards step writes anew;
- tables, pages, videos, attacks and caches, whole, for they mix people; the next commands make them again;
- the name, wherever it is left (see `common.text.redaction`).

Models know the clips that are gone until they are trained again: `training.adapters.membership` names them.
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
from preparation.corpora.manifest import load_manifest
from preparation.crops.crop import forget_crop
from preparation.quarantine import load_quarantine, replace_rows

MIXED = ("evaluation", "attacks", "report", RESULTS, "clients_report", IDENTITIES)
"""What is made of many people at once."""
OWN_FILES_STEPS = ("manifest", "cuts")
"""Steps whose quarantine rows are of files that are in the corpus now: they have just been run."""
SIMULATED = re.compile(r"d+\d{4}")
"""Names of simulated clients, see `preparation.clients.dealing`."""


@dataclass(frozen=True)
class Absent:
    """Of how many clips that are not there something had been made, and how many people of these have no clip left."""

    clips: int
    people: int


@dataclass(frozen=True)
class AbsentNames:
    """The ids of those clips, and the names of those people."""

    clips: list[str]
    people: list[str]


def absent_names(run: RunFolder) -> AbsentNames:
    """Clips and people of whom the run holds something and its manifest nothing."""
    named: dict[str, set[str]] = {}
    for clip in load_manifest(run.manifest):
        named.setdefault(clip.speaker, set()).add(clip.name)
    table = load_clients(run.clients_table) if run.clients_table.exists() else {}
    clips, people = [], []
    for home in sorted(run.root.glob("clients/*")):
        person = home.name
        if (home / "crops").is_dir():
            clips += [f"{person}/{name}" for name in sorted(_names(home / "crops") - named.get(person, set()))]
        elif person in table and table[person].people:
            continue  # a simulated client has shards alone, which `preparation.clients.dealing` sees to
        if person not in named:
            people.append(person)
    simulated = {name for name, entry in table.items() if entry.people and name not in named}
    others = ({*table} | _remembered(run)) - {*named, *people} - simulated
    people += sorted(name for name in others if not SIMULATED.fullmatch(name))
    return AbsentNames(clips, people)


def settle_absent(run: RunFolder, forget: bool) -> Absent:
    """Say in a line what the run holds of clips that are not in its manifest, and with `forget` remove it."""
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
    """Remove all of it; people's folders go last, so that one that was interrupted goes on when it is asked again."""
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
    stays = {name: _without(entry, people, clips) for name, entry in table.items() if name not in people}
    for name, entry in stays.items():
        if entry == table[name]:
            continue
        _remove(run.shards(name))
        # What several people agreed to names them; each one's own record speaks for who is left.
        record = read_consent(run, name)
        if people & set(people_of(name, table[name])) and record is not None and record.revoked is None:
            run.consent(name).unlink()
    if stays != table:
        save_clients(stays, run.clients_table)
    _drop_rows(run)
    for state in run.root.glob("federation/*/checkpoint/state.json"):
        # It is a checkpoint of just these clients: without one of them no run goes on from it.
        of_whom = json.loads(state.read_text(encoding="utf-8"))["fingerprint"]
        if any(re.search(rf"-{re.escape(name)}(-|$)", of_whom) for name in people):
            _remove(state.parent)
    redact_run(run.root, pseudonyms(run.root, gone.people), gone.clips)
    for clip in clips:
        person, _, name = clip.rpartition("/")
        if person not in people:
            forget_crop(run.crops(person), name)
    for person in gone.people:
        _remove(run.client(person))


def _without(entry: Client, people: set[str], clips: set[str]) -> Client:
    """A client without the clips that are gone and those of people who are."""

    def stays(clip: str) -> bool:
        return clip not in clips and entry.person_of(clip) not in people and clip.rpartition("/")[0] not in people

    splits = {split: [clip for clip in ids if stays(clip)] for split, ids in entry.splits.items()}
    owners = {clip: who for clip, who in entry.people.items() if stays(clip)}
    return replace(entry, splits=splits, people=owners, shares=[who for who in entry.shares if who not in people])


def _on_panel(run: RunFolder, people: set[str], clips: set[str]) -> bool:
    """Whether the nights show any of them: private people never stand on the panel, and then the nights stay."""
    panel = run.nightly / PANEL
    if not panel.exists():
        return run.nightly.exists()
    entries = json.loads(panel.read_text(encoding="utf-8"))
    return any(one["person"] in people or one["clip_id"].partition("@")[0] in clips for one in entries)


def _drop_rows(run: RunFolder) -> None:
    """Take rows of files that are not in the manifest out of the quarantine."""
    rows = load_quarantine(run.quarantine)
    known = {name for clip in load_manifest(run.manifest) for name in (clip.path, clip.clip_id)}
    stay = [row for row in rows if row.step in OWN_FILES_STEPS or row.file in known]
    if len(stay) < len(rows):
        replace_rows(run.quarantine, {row.step for row in rows}, stay)


def _remembered(run: RunFolder) -> set[str]:
    """Who was asked to train, by the notes that federations left; some people's folders may have gone before."""
    names: set[str] = set()
    for path in run.root.glob("federation/*/participants.json"):
        note = json.loads(path.read_text(encoding="utf-8"))
        names |= {*note.get("clients", ()), *note.get("left_out", ())}
    return {name for name in names if not name.startswith("forgotten-")}


def _names(crops: Path) -> set[str]:
    """The clips that left anything here; a clip's name has no dot, and what begins with one is being written."""
    found = [*crops.iterdir(), *(crops / "refused").glob("*.json")]
    return {path.name.partition(".")[0] for path in found if path.is_file() and not path.name.startswith(".")}


def _remove(path: Path) -> None:
    """A file, a folder, or a link to one."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=not path.exists())
