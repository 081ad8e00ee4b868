"""A forecast of a federation's steps, traffic, ε and time, made before it begins.

The networks have their real size and random weights. One round's messages are really exchanged and one local step is
really timed; nothing is trained and no clip is read.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from common.folders import RunFolder
from preparation.faces.motion import MOTION_DIM
from preparation.media.rates import SAMPLES_PER_FRAME
from preparation.settings import PreparationSettings
from preparation.speech.features import open_speech
from training.adapters.adapter import Adapter
from training.execution.memory import worst_case
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer, LocalUpdate
from training.federation.methods import configure, named
from training.federation.methods.base import LocalRule
from training.federation.server.aggregation import Aggregator
from training.federation.server.cohorts import expected_cohort
from training.federation.server.spending import planned_schedule, rounds_that_fit
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.small import SmallVae
from training.model.autoencoders.sources import SMALL, open_pretrained
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.backbones.kinds import build_backbone
from training.model.frozen.loading import open_pixel_terms
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.pipeline import pooled_steps
from training.privacy.accounting.epsilon import finite
from training.privacy.accounting.guarantee import epsilons
from training.settings import TrainingSettings

FLOAT = 4  # bytes


@dataclass(frozen=True)
class MethodForecast:
    """The forecast of one method's federation.

    `rounds` are those that `privacy.max_epsilon` allows; `steps` counts all clients' local steps in them. `bytes_up`
    and `bytes_down` are those of one client in one round. ε is None where no finite one holds.
    """

    method: str
    rounds: int
    steps: int
    trainable: int
    bytes_up: int
    bytes_down: int
    bytes_total: int
    epsilon_release: float | None
    epsilon_server: float | None
    delta: float | None


@dataclass(frozen=True)
class Networks:
    """The frozen networks and the adapter at the size that the settings give them, weights random."""

    vae: Autoencoder
    backbone: Backbone
    adapter: Adapter
    backbone_parameters: int


def build_networks(training: TrainingSettings, preparation: PreparationSettings) -> Networks:
    """The networks that the settings describe. Raises MissingWeightError if a pretrained part is missing."""
    vae = SmallVae(training.vae) if training.vae.source == SMALL else open_pretrained(training.vae.source)
    side = preparation.crops.size // vae.downscale
    tokens, dim = open_speech(preparation.speech)(np.zeros(SAMPLES_PER_FRAME, np.int16), 1).shape[1:]
    shape = BackboneShape(
        latent_channels=vae.latent_channels, latent_size=side, speech_steps=tokens, speech_dim=dim,
        motion_dim=MOTION_DIM,
    )  # fmt: skip
    backbone = build_backbone(training.backbone, shape)
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    return Networks(vae, backbone, Adapter(backbone, training.adapter, 0), parameters)


def forecast(method: str, training: TrainingSettings, clients: int, dimension: int) -> MethodForecast:
    """The method's steps, traffic and ε; its settings are checked as a run would check them."""
    settings = configure(method, training)
    if named(method).pooled:
        settings = pooled_steps(settings, clients)
    federation, privacy = settings.federation, settings.privacy
    people = 1 if named(method).pooled else clients
    cohort = expected_cohort(people, federation)
    federates = named(method).federates
    up, down = traffic_of(settings, cohort, dimension) if federates else (0, 0)
    rounds = rounds_that_fit(settings, people, dimension) if federates else federation.rounds
    release = server = None
    if privacy.has_proof and not named(method).pooled:
        schedule = replace(planned_schedule(settings, people), rounds=rounds)
        found = epsilons(privacy, schedule, dimension, privacy.target_delta(people))
        release, server = (finite(epsilon.value) for epsilon in found)
    return MethodForecast(
        method=method,
        rounds=rounds,
        steps=rounds * cohort * federation.local_steps,
        trainable=dimension,
        bytes_up=up,
        bytes_down=down,
        bytes_total=rounds * cohort * (up + down),
        epsilon_release=release,
        epsilon_server=server,
        delta=None if release is None else privacy.target_delta(people),
    )


def traffic_of(settings: TrainingSettings, cohort: int, dimension: int) -> tuple[int, int]:
    """Bytes that one client sends and receives in a round, measured on one simulated round.

    The whole cohort sends random updates of `dimension` numbers under the protocol, masks included, and receives theta
    and the protocol's messages.
    """
    aggregator = Aggregator(settings.privacy, cohort, 0, settings.privacy.clip_norm, 1.0)
    rng = np.random.default_rng(0)
    sent = {}
    for number in range(cohort):
        delta = rng.normal(0, 1e-3, dimension).astype(np.float32)
        sent[f"client{number}"] = aggregator.contribute(f"client{number}", LocalUpdate(delta, 1, 0.5, {}, 0.0), 1)
    aggregator.combine(sent, 1)
    return round(aggregator.bytes_up / cohort), FLOAT * dimension + round(aggregator.bytes_down / cohort)


def seconds_of_a_window(
    networks: Networks, training: TrainingSettings, device: torch.device, repeats: int = 3
) -> float:
    """Seconds of the fastest of `repeats` local steps on one window, terms on decoded frames included, after a warm-up.

    Raises MissingWeightError if a term's network is missing.
    """
    settings = configure("privfedtalk", training)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))  # terms may ask for the run's rulers
        IdentityRuler().frozen().save(run.model("rulers") / "identity")
        OpeningRuler().frozen().save(run.model("rulers") / "opening")
        terms = open_pixel_terms(run, settings.objective, networks.vae.decode)
        identity = IdentityRuler.load(run.model("rulers") / "identity")
    networks.vae.to(device).eval().requires_grad_(False)
    networks.adapter.backbone.to(device)
    storage = ClientStorage(run, "privfedtalk")
    trainer = ClientTrainer(storage, networks.adapter, networks.vae, identity, settings, 0, terms)
    batch, draw = worst_case(trainer, 1)
    rule = LocalRule(settings, {}, {})
    optimizer = rule.begin(trainer.adapter.parameters)
    durations = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        losses = trainer.step(batch, draw, rule, optimizer)
        float(sum(losses.values()))  # waits for a GPU
        durations.append(time.perf_counter() - started)
    return min(durations[1:])
