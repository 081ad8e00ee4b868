"""Making points of a sweep: a federation in a scratch run made of links, which goes when it is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from common.files import write_text
from common.folders import RunFolder
from evaluation.catalogue import BACKBONE
from evaluation.experiments.paper.folders import PUBLIC_NETWORKS, PaperFolder, link_folder, link_networks, link_people
from evaluation.experiments.paper.points import Point, point_of
from evaluation.measuring.models import client_losses, open_model
from evaluation.measuring.runs import measure
from evaluation.results.run_files import read_losses
from evaluation.settings import EvaluationSettings
from preparation.clients.dealing import deal_clips
from preparation.clients.features import measure_clips
from preparation.clients.roles import load_people, of_role, save_clients
from preparation.corpora.manifest import load_manifest
from preparation.pipeline import build_all_shards
from preparation.settings import ConsentSettings, PreparationSettings
from training.settings import TrainingSettings


@contextmanager
def scratch_run(paper: PaperFolder, seed: int, name: str) -> Iterator[RunFolder]:
    """A run of the seed's people and networks in which something may be tried; it is gone afterwards."""
    root = paper.root / "scratch" / name
    shutil.rmtree(root, ignore_errors=True)  # of a stage that was killed
    run = RunFolder(root)
    link_people(run, paper.people)
    link_networks(run, paper.people, PUBLIC_NETWORKS)
    link_folder(run.model(BACKBONE), paper.backbone(seed))
    try:
        yield run
    finally:
        shutil.rmtree(root, ignore_errors=True)


def deal_anew(run: RunFolder, preparation: PreparationSettings, workers: int) -> None:
    """Give the clients' clips to simulated clients of a scratch run: a table of its own, and their shards."""
    from training.model.autoencoders.sources import load_autoencoder

    people = load_people(run)
    members = [(name, people[name]) for name in of_role(people, "client")]
    features = {clip: found.vector() for clip, found in measure_clips(run, members).items()}
    table = deal_clips(load_manifest(run.manifest), people, features, preparation.partition, preparation.clients)
    run.clients_table.unlink()  # the link: what it leads to stays
    save_clients(table, run.clients_table)
    encode = load_autoencoder(run.model("vae")).encode_frames
    build_all_shards(run, encode, preparation, "", of_role(table, "client"), workers)


def run_point(
    run: RunFolder,
    method: str,
    training: TrainingSettings,
    seed: int,
    setting: Mapping[str, float],
    workers: int,
    evaluation: EvaluationSettings | None = None,
) -> Point:
    """Federate in a scratch run and measure the clients' losses; with `evaluation`, their generated clips too."""
    from training.pipeline import federate

    # Consent was asked for the run whose people these are; whoever is dealt anew has no record of its own.
    again = training.model_copy(update={"consent": ConsentSettings(required=False)})
    federate(run, method, again, seed, resume=False, workers=workers)
    if evaluation is None:
        denoiser = open_model(run, method, again, seed).denoiser
        assert denoiser is not None, "a method has a denoiser"
        losses = client_losses(run, denoiser, again.objective, seed, required=False)
        write_text(_losses(run, method), json.dumps(losses))
    else:
        measure(run, method, evaluation, again, seed)
    return point_of(run, method, setting, backbone_losses(run, again, seed))


def backbone_losses(run: RunFolder, training: TrainingSettings, seed: int) -> dict[str, float]:
    """The clients' losses under the frozen backbone, measured once for a run."""
    path = _losses(run, BACKBONE)
    if not path.exists():
        denoiser = open_model(run, BACKBONE, training, seed).denoiser
        assert denoiser is not None, "the backbone is a denoiser"
        losses = client_losses(run, denoiser, training.objective, seed, required=training.consent.required)
        write_text(path, json.dumps(losses))
    return read_losses(run, BACKBONE)


def _losses(run: RunFolder, name: str) -> Path:
    return run.evaluation(name) / "validation_loss.json"
