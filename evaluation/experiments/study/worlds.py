"""Worlds of the study: for each seed one public corpus with frozen networks, and clients rendered for each shift.

A world is a run's folder whose networks are those of its seed's public corpus, so that the worlds of a seed differ only
in their people. Client 3 of seed 0 is the same face in every world; its colours, its light and how it opens its mouth
follow the world's population.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.files import write_text
from common.folders import RunFolder
from common.settings import Settings
from evaluation.experiments.points import World
from evaluation.experiments.study.defects import DEFECTS, spoil
from evaluation.experiments.study.settings import StudySettings
from preparation.clients.roles import load_clients, of_role, save_clients
from preparation.corpora.studio.corpus import render_corpus
from preparation.corpora.studio.settings import StudioSettings
from preparation.pipeline import build_all_shards, prepare_clients, register_corpus
from preparation.settings import CorpusKind, PreparationSettings
from preparation.shards.gate import Gate
from preparation.shards.store import write_shards

Traits = Literal["demo", "articulation", "mouth", "light", "accessories", "camera"]

TRAITS: dict[Traits, tuple[str, ...]] = {
    "demo": (
        "articulation_gain",
        "articulation_variety",
        "lip_vividness",
        "lip_variety",
        "teeth_brightness",
        "light",
        "warmth",
    ),
    "articulation": ("articulation_gain", "articulation_variety"),
    "mouth": ("lip_vividness", "lip_variety", "teeth_brightness"),
    "light": ("light", "warmth"),
    "accessories": ("glasses",),
    "camera": ("camera_pitch", "camera_softness", "camera_noise"),
}
"""Settings of the clients' population that differ from the public one's; `demo` has those of the demo's clients."""

READY = "ready"


class Population(Settings):
    """The clients of a world.

    `shift`: how far they are from the public population in `traits`. `clips`: clips that each trains on (None: all).
    `clients`: their number (None: the study's). `spoiled`: some clients' training clips are bad (see `defects`), while
    all clients are measured on good ones.
    """

    shift: float = 1.0
    traits: Traits = "demo"
    clips: int | None = None
    clients: int | None = None
    spoiled: bool = False

    @property
    def rendered(self) -> Population:
        """The world that this one's clips are taken from."""
        return Population(shift=self.shift, traits=self.traits, clients=self.clients)

    @property
    def name(self) -> str:
        parts = [f"shift{self.shift:g}", self.traits]
        parts += [f"clients{self.clients}"] if self.clients else []
        parts += [f"clips{self.clips}"] if self.clips else []
        return "-".join([*parts, "spoiled"] if self.spoiled else parts)


CENTRE = Population()


def public_folder(root: Path, seed: int) -> RunFolder:
    return RunFolder(root / f"seed{seed}" / "public")


def world_folder(root: Path, seed: int, world: Population) -> RunFolder:
    return RunFolder(root / f"seed{seed}" / world.name)


def is_ready(folder: RunFolder) -> bool:
    return (folder.root / READY).exists()


@dataclass(frozen=True)
class RenderedWorld:
    """The world of one population under one seed, in the study's folder `root`; with population None, the seed's public
    corpus and networks."""

    root: Path
    seed: int
    population: Population | None
    settings: StudySettings
    device: str = "cpu"

    def __str__(self) -> str:
        return f"seed {self.seed} {self.population.name if self.population else 'public corpus and networks'}"

    @property
    def folder(self) -> RunFolder:
        if self.population is None:
            return public_folder(self.root, self.seed)
        return world_folder(self.root, self.seed, self.population)

    @property
    def needs(self) -> tuple[World, ...]:
        if self.population is None:
            return ()
        public, rendered = replace(self, population=None), replace(self, population=self.population.rendered)
        return (public,) if rendered == self else (public, rendered)

    @property
    def ready(self) -> bool:
        return is_ready(self.folder)

    def make(self) -> None:
        if self.population is None:
            make_public(self.root, self.seed, self.settings, self.device)
        else:
            make_world(self.root, self.seed, self.population, self.settings, self.device)


def make_public(root: Path, seed: int, settings: StudySettings, device: str = "cpu") -> None:
    """Make the public corpus of a seed and all that is trained on it: autoencoder, rulers (on the CPU), backbone."""
    import torch

    from training.learning.pretraining import curve, pretrain
    from training.learning.public import make_vae, read_public_frames, read_public_validation, stream_public
    from training.model.frozen.rulers import (
        IdentityRulerSettings,
        OpeningRulerSettings,
        train_identity_ruler,
        train_opening_ruler,
    )

    run, training = public_folder(root, seed), settings.training
    _render(run, _studio(settings.studio, seed, public_only=True), _preparation(settings, seed))
    vae = _once(run.model("vae"), lambda to: make_vae(run, training.vae, seed, torch.device(device)).cpu().save(to))
    _shards(run, vae, _preparation(settings, seed), device)

    def rulers(to: Path) -> None:
        public, steps = read_public_frames(run), settings.ruler_steps
        opening = OpeningRulerSettings(steps=steps)
        train_opening_ruler(public.frames, public.openings, opening, seed).save(to / "opening")
        train_identity_ruler(public.frames, public.speakers, IdentityRulerSettings(steps=steps), seed).save(
            to / "identity"
        )

    def backbone(to: Path) -> None:
        held_out = read_public_validation(run)
        parts = (training.backbone, training.objective, training.pretraining)
        model, history = pretrain(lambda: stream_public(run), held_out, *parts, seed, torch.device(device))
        model.cpu().save(to)
        write_text(to / "curve.txt", "\n".join(map(str, curve(history))) + "\n")

    _once(run.model("rulers"), rulers)
    _once(run.model("backbone"), backbone)
    (run.root / READY).touch()


def make_world(root: Path, seed: int, world: Population, settings: StudySettings, device: str = "cpu") -> None:
    """Make the clients of a world: rendered, or derived from the clients of the rendered world."""
    run = world_folder(root, seed, world)
    run.root.mkdir(parents=True, exist_ok=True)
    if not run.model("").exists():
        run.model("").symlink_to(os.path.relpath(public_folder(root, seed).model(""), run.root))
    if world == world.rendered:
        _render(run, _studio(settings.studio, seed, world=world), _preparation(settings, seed))
        _shards(run, run.model("vae"), _preparation(settings, seed), device)
    else:
        _derive(world_folder(root, seed, world.rendered), run, world, seed, device)
    (run.root / READY).touch()


def _studio(
    studio: StudioSettings, seed: int, world: Population | None = None, public_only: bool = False
) -> StudioSettings:
    if world is None:
        return studio.model_copy(update={"seed": seed, "clients": 0, "unseen": 0})
    public, clients = studio.public_population, studio.client_population
    moved = {name: getattr(clients, name) for name in TRAITS[world.traits]}
    # Strangers are measured only where shift and traits are central, and rendering is half of a small world's cost.
    strangers = studio.unseen if (world.shift, world.traits) == (CENTRE.shift, CENTRE.traits) else 0
    return studio.model_copy(
        update={
            "seed": seed,
            "public_speakers": 0,
            "clients": world.clients or studio.clients,
            "unseen": strangers,
            "shift": world.shift,
            "client_population": public.model_copy(update=moved),
        }
    )


def _preparation(settings: StudySettings, seed: int) -> PreparationSettings:
    clients = settings.preparation.clients.model_copy(update={"seed": seed})
    return settings.preparation.model_copy(update={"clients": clients})


def _render(run: RunFolder, studio: StudioSettings, preparation: PreparationSettings) -> None:
    render_corpus(run.corpus, studio, workers=1)
    register_corpus(CorpusKind.STUDIO, run.corpus, run, preparation)
    prepare_clients(run, run.corpus, preparation)


def _shards(run: RunFolder, vae: Path, preparation: PreparationSettings, device: str) -> None:
    from training.model.autoencoders.sources import load_autoencoder

    build_all_shards(run, load_autoencoder(vae).to(device).encode_frames, preparation, "study")


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by `make` unless an earlier call finished it; an unfinished one is made again."""
    if not (folder / READY).exists():
        make(folder)
        (folder / READY).touch()
    return folder


def _derive(rendered: RunFolder, run: RunFolder, world: Population, seed: int, device: str) -> None:
    """Write the rendered world's clients with fewer clips to train on, or with spoiled clips."""
    from training.model.autoencoders.sources import load_autoencoder

    table = load_clients(rendered.clients_table)
    clients = of_role(table, "client")
    gate = Gate(rendered, "training", required=False)
    agreed = gate.admit(clients, "the study")
    vae = load_autoencoder(run.model("vae")).to(device)
    for number, client in enumerate(clients):
        if client not in agreed:
            continue
        samples = list(gate.samples(client))
        if world.spoiled:
            donor = list(gate.samples(agreed[(agreed.index(client) + 1) % len(agreed)]))
            samples = [spoil(sample, DEFECTS.get(number, ""), donor, vae, seed) for sample in samples]
        if world.clips or (world.spoiled and DEFECTS.get(number) == "few"):
            most = world.clips or 1
            training = [sample for sample in samples if sample.split == "train"][:most]
            samples = training + [sample for sample in samples if sample.split != "train"]
        write_shards(run.client(client), samples)
    save_clients(
        {name: one for name, one in table.items() if one.role != "client" or name in agreed}, run.clients_table
    )
