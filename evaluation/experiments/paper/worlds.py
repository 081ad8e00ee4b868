"""Worlds of the paper's sweeps: a seed's people and networks as they are, or with the clients' clips dealt again."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.folders import RunFolder
from evaluation.experiments.links import link_networks, link_people
from evaluation.experiments.paper.folders import PaperFolder, open_seed
from evaluation.experiments.points import World, digest_of
from preparation.clients.roles import load_clients, load_people, of_role, save_clients
from preparation.settings import PreparationSettings

READY = "ready"


@dataclass(frozen=True)
class SeedWorld:
    """The run of a seed, whose people and networks earlier stages made."""

    paper: PaperFolder
    seed: int

    @property
    def folder(self) -> RunFolder:
        return self.paper.seed(self.seed)

    @property
    def needs(self) -> tuple[World, ...]:
        return ()

    @property
    def ready(self) -> bool:
        return False  # making it again only renews links

    def make(self) -> None:
        open_seed(self.paper, self.seed)

    def digest(self) -> str:
        """A digest of what a federation in this world depends on: people, networks, shards."""
        people, backbone = self.paper.people, self.paper.backbone(self.seed)
        folders = [people.model("vae"), people.model("rulers"), backbone]
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        files += [people.clients_table, *sorted((people.root / "clients").glob("*/shards/*"))]
        found = {path.relative_to(self.paper.root): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        return digest_of(*(f"{name} {digest}" for name, digest in found.items()))


@dataclass(frozen=True)
class DealtWorld:
    """The same people and networks, with the clients' clips dealt to simulated clients by `preparation.partition`.

    It lies in `root` and is not needed once its points are made.
    """

    seed_world: SeedWorld
    root: Path
    preparation: PreparationSettings

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.root)

    @property
    def needs(self) -> tuple[World, ...]:
        return (self.seed_world,)

    @property
    def ready(self) -> bool:
        return (self.root / READY).exists()

    def make(self) -> None:
        """Write this world's table of clients and their shards; everything else is links."""
        # Half a second of imports that only the process that makes a world needs.
        from preparation.clients.dealing import deal_clips
        from preparation.clients.features import measure_clips
        from preparation.clients.timeline import frames_of, sample_clips
        from preparation.corpora.manifest import load_manifest
        from preparation.pipeline import build_all_shards
        from training.model.autoencoders.sources import load_autoencoder

        shutil.rmtree(self.root, ignore_errors=True)  # left by a process that was killed
        run, owner = self.folder, self.seed_world.folder
        people = load_people(owner)
        link_people(run, owner, sorted(load_clients(owner.clients_table)))
        link_networks(run, owner)
        members = [(name, people[name]) for name in of_role(people, "client")]
        features = {clip: found.vector() for clip, found in measure_clips(run, members).items()}
        chosen = self.preparation
        samples, gap = sample_clips(run, load_manifest(run.manifest)), frames_of(chosen.samples.gap_seconds)
        table = deal_clips(
            samples.clips, people, features, chosen.partition, chosen.clients, places=samples.places, gap=gap
        )
        run.clients_table.unlink()  # removes the link; the table itself stays
        save_clients(table, run.clients_table)
        encode = load_autoencoder(run.model("vae")).encode_frames
        build_all_shards(run, encode, chosen, "", of_role(table, "client"), workers=1)
        (self.root / READY).touch()
