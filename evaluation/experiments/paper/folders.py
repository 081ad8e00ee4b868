"""Where the paper's runs lie: people and public networks once, a run's folder for each seed, made of links to them.

    people/                      a run: corpus, crops, clients, shards, autoencoder, rulers; the same for every seed
    backbone/seed<n>             a seed's backbone
    federation/<method>/seed<n>  what a seed's federation left; `own/<client>` is what the client keeps
    evaluation/<method>/seed<n>  what it was measured at
    sweeps/<sweep>/...           figures of single federations under other settings
    seed<n>/                     a run: links to all of these, so that whatever reads a run reads it

A method's results of all seeds lie together because that is what a table depends on; links are no results.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.roles import load_clients

PEOPLE = "people"
TABLES = ("manifest.parquet", "people.json", "clients.json", "quarantine.parquet")
OF_A_PERSON = ("crops", "shards")
PUBLIC_NETWORKS = ("vae", "rulers")
BACKBONE = "backbone"


@dataclass(frozen=True)
class PaperFolder:
    """The folder of all seeds, `data/rendered`."""

    root: Path

    @property
    def people(self) -> RunFolder:
        return RunFolder(self.root / PEOPLE)

    def seed(self, seed: int) -> RunFolder:
        return RunFolder(self.root / seed_name(seed))

    def backbone(self, seed: int) -> Path:
        return self.root / BACKBONE / seed_name(seed)

    def federation(self, method: str, seed: int) -> Path:
        return self.root / "federation" / method / seed_name(seed)

    def evaluation(self, name: str, seed: int) -> Path:
        return self.root / "evaluation" / name / seed_name(seed)

    def sweep(self, name: str) -> Path:
        return self.root / "sweeps" / name

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    @property
    def figures(self) -> Path:
        return self.root / "figures"


def seed_name(seed: int) -> str:
    return f"seed{seed}"


def open_seed(paper: PaperFolder, seed: int, methods: Iterable[str] = (), measured: Iterable[str] = ()) -> RunFolder:
    """A seed's run over the people: links to them, to what `methods` trained and to what was `measured`.

    It may be opened as often as wanted; folders that links lead to are made where they are absent.
    """
    run = paper.seed(seed)
    clients = link_people(run, paper.people)
    link_networks(run, paper.people, PUBLIC_NETWORKS)
    link_folder(run.model(BACKBONE), paper.backbone(seed))
    for record in sorted((paper.people.root / "stages").glob("*.json")):
        link(run.root / "stages" / record.name, record)
    for method in methods:
        home = paper.federation(method, seed)
        link_folder(run.federation(method), home)
        for client in clients:
            link_folder(run.client_method(client, method), home / "own" / client)
    for name in measured:
        link_folder(run.evaluation(name), paper.evaluation(name, seed))
    return run


def link_people(run: RunFolder, people: RunFolder, only: Sequence[str] | None = None) -> list[str]:
    """Links to the tables, crops and shards of the people, or of `only` some of them; -> the people's names."""
    if not people.clients_table.exists():
        raise PrivFedTalkError(f"{people.root} holds no prepared people", remedy="run `dvc repro people` first")
    for name in TABLES:
        link(run.root / name, people.root / name)
    clients = sorted(load_clients(people.clients_table)) if only is None else list(only)
    for client in clients:
        for kind in OF_A_PERSON:
            link_folder(run.client(client) / kind, people.client(client) / kind)
        record = run.consent(client)  # a rendered client of an older run may have one of its own
        if people.consent(client).exists() and (record.is_symlink() or not record.exists()):
            link(record, people.consent(client))
    return clients


def link_networks(run: RunFolder, owner: RunFolder, names: Iterable[str]) -> None:
    for name in names:
        link_folder(run.model(name), owner.model(name))


def link_folder(path: Path, target: Path) -> None:
    """As `link`, to a folder that is made where it is absent: whoever writes below `path` need not know."""
    target.mkdir(parents=True, exist_ok=True)
    link(path, target)


def link(path: Path, target: Path) -> None:
    """`path` as a relative link to `target`, be that there or not; what is no link is never replaced by one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(target, path.parent)
    if path.is_symlink():
        if str(path.readlink()) == wanted:
            return
        path.unlink()
    path.symlink_to(wanted)
