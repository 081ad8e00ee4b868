"""The folders of the paper's runs: people and public networks once, and for each seed a run made of links to them.

    people/                      a run: corpus, crops, clients, shards, autoencoder, rulers; the same for every seed
    backbone/seed<n>             a seed's backbone
    federation/<method>/seed<n>  the files of a seed's federation; `own/<client>` has those that the client keeps
    evaluation/<method>/seed<n>  its metrics
    sweeps/<sweep>/<stage>/      points: figures of single federations under other settings
    seed<n>/                     a run: links to all of these, so that code for runs can read it

A method's results of all seeds lie side by side, because a table depends on all of them; the links are no results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.experiments.links import link, link_folder, link_networks, link_people
from preparation.clients.roles import load_clients

PEOPLE = "people"
PARTICIPATION, DEALT, NOISE = "participation", "dealt", "noise"
"""Names of the sweeps."""
PUBLIC_NETWORKS = ("vae", "rulers")
BACKBONE = "backbone"


@dataclass(frozen=True)
class PaperFolder:
    """The folder of all seeds, `data/rendered`, and the folders in it."""

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
    """Make a seed's run of links: to the people, to the federations of `methods` and to the evaluations of `measured`.

    It may be called repeatedly; folders that links lead to are made where they are absent.
    """
    run, people = paper.seed(seed), paper.people
    if not people.clients_table.exists():
        raise PrivFedTalkError(f"{people.root} holds no prepared people", remedy="run `dvc repro people` first")
    clients = sorted(load_clients(people.clients_table))
    link_people(run, people, clients)
    link_networks(run, people, PUBLIC_NETWORKS)
    link_folder(run.model(BACKBONE), paper.backbone(seed))
    for record in sorted((people.root / "stages").glob("*.json")):
        link(run.root / "stages" / record.name, record)
    for method in methods:
        folder = paper.federation(method, seed)
        link_folder(run.federation(method), folder)
        for client in clients:
            link_folder(run.client_method(client, method), folder / "own" / client)
    for name in measured:
        link_folder(run.evaluation(name), paper.evaluation(name, seed))
    return run
