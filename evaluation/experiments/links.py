"""Makes runs of links to the people and networks of another run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from common.folders import CLIENTS, MANIFEST, PEOPLE, QUARANTINE, RunFolder

TABLES = (MANIFEST, PEOPLE, CLIENTS, QUARANTINE)
OF_A_PERSON = ("crops", "shards")
NETWORKS = ("vae", "rulers", "backbone")


def link_people(run: RunFolder, owner: RunFolder, people: Iterable[str]) -> None:
    """Link to the owner's tables, and to the crops, shards and consent records of some people."""
    for name in TABLES:
        link(run.root / name, owner.root / name)
    for person in people:
        for kind in OF_A_PERSON:
            if (owner.client(person) / kind).exists():
                link(run.client(person) / kind, owner.client(person) / kind)
        record = run.consent(person)  # a rendered client of an older run may have its own record
        if owner.consent(person).exists() and (record.is_symlink() or not record.exists()):
            link(record, owner.consent(person))


def link_networks(run: RunFolder, owner: RunFolder, names: Iterable[str] = NETWORKS) -> None:
    """Link to some of the owner's frozen networks."""
    for name in names:
        link_folder(run.model(name), owner.model(name))


def link_folder(path: Path, target: Path) -> None:
    """As `link`, to a folder, which is made where it is absent, so that files can be written below `path`."""
    target.mkdir(parents=True, exist_ok=True)
    link(path, target)


def link(path: Path, target: Path) -> None:
    """Make `path` a relative link to `target`, whether or not that exists; a file or folder at `path` is never replaced
    (FileExistsError)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Both folders are resolved first: a relative path through another link would lead elsewhere.
    wanted = os.path.relpath(target.parent.resolve() / target.name, path.parent.resolve())
    if path.is_symlink():
        if str(path.readlink()) == wanted:
            return
        path.unlink()
    path.symlink_to(wanted)
