"""Gradient inversion on the clients of a run: what an update, the sum of all and the noisy sum reveal of a face.

The round that is attacked would follow the run's last: from the released adapter every client makes an update, which
this simulation alone can see. Two updates are attacked:
  one step    a single gradient on a single window, scaled to the clipping norm: it mixes the fewest clips and therefore
              reveals the most.
  round       the update of the run's local steps.
Two attackers try:
  draws known    knows the noise, timestep, speech, motion and feature boxes of each window, like somebody who knows the
                 seed of a client's generator and heard it speak: only the pictures are unknown. The worst case.
  draws guessed  knows none of these; uses windows and draws of public speakers in their place, and looks for one face.
Both are compared with the mean face of the public split, which is known without any update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from common import seeding
from common.errors import PrivFedTalkError
from common.files import read_json_lines
from common.folders import ADAPTER_WEIGHTS, RunFolder
from common.progress import track
from common.settings import Settings
from common.text.commands import command
from evaluation.attacks.inversion import Inverted, OneFace, OwnFaces, Prior, Scene, gradient, invert
from evaluation.attacks.inversion_views import RAW, Seen, sums_seen
from preparation.shards.gate import Gate
from training.adapters.adapter import Adapter
from training.adapters.checks import read_adapter
from training.adapters.membership import participants
from training.adapters.origin import check_origin
from training.execution import open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement, ClientTrainer, LocalUpdate
from training.federation.methods import configure, named, server_of
from training.federation.methods.base import State, Theta
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import last_counted
from training.learning.eligible import trainable_clients
from training.learning.public import stream_public
from training.model.data import ClipTensors, stream_batches
from training.model.objective import Draw
from training.settings import TrainingSettings

ONE_STEP, ROUND = "one step", "round"
KNOWN, GUESSED = "draws known", "draws guessed"
MOST_PUBLIC_CLIPS = 256


class InversionSettings(Settings):
    """How hard the attacker tries. An L-BFGS step costs about four training steps on as many windows."""

    clients: int = Field(4, ge=2, description="clients whose own update is attacked; sums are over the whole cohort")
    cohort: int = Field(8, ge=2, description="largest number of clients in the sum")
    steps: int = Field(80, ge=1, description="search steps where the draws are known")
    guesses: int = Field(4, ge=1, description="public windows that take the place of unknown ones")
    guessed_steps: int = Field(20, ge=1, description="search steps where the draws are guessed, with less to find")
    guessed_trust: float = Field(
        300.0, gt=0, description="weight of the match against the prior where the draws are guessed"
    )


@dataclass(frozen=True)
class Attack:
    """The result of one attacker on one view: latents of each attacked client's face [N, C, h, w]."""

    update: str
    sees: str
    knows: str
    faces: Tensor
    cosines: list[float]
    stalled: int  # number of stalled searches; there is one cosine for each search


@dataclass(frozen=True)
class Attacked:
    """All attacks on one run, with the true faces [N, C, h, w] and the mean face [C, h, w] known without any update."""

    clients: list[str]
    cohort: int
    truth: Tensor
    mean_face: Tensor
    attacks: list[Attack]


class Victims:
    """The clients of a run in the round after its last, as only a simulation can see them.

    They are only those who agreed to be trained on and to be generated, because their updates are made and their faces
    shown. The run's files are not changed.
    """

    def __init__(
        self, run: RunFolder, method: str, training: TrainingSettings, seed: int, settings: InversionSettings
    ) -> None:
        path = run.adapter(method) / ADAPTER_WEIGHTS
        if not path.exists():
            raise PrivFedTalkError(
                f"{method} is not trained in {run.root}", command("train", run=run.root, method=method)
            )
        if not named(method).federates:
            raise PrivFedTalkError(f"the clients of {method} send no updates", "name a method that federates")
        self.run, self.method, self.seed = run, method, seed
        self.training = configure(method, training)
        required = training.consent.required
        self.storage = ClientStorage(run, method, required=required, read_only=True)
        self.trainer: ClientTrainer = open_trainer(self.storage, self.training, seed)
        check_origin(run, path.parent)
        _load_checked(self.trainer.adapter, path.parent)
        self.theta: Theta = self.trainer.adapter.vector()
        took_part = set(participants(run, method))
        agreed = [client for client in trainable_clients(run, required, unmeasured=True) if client in took_part]
        self.clients = Gate(run, "generation", required).admit(agreed, "the inversion")[: settings.cohort]
        if len(self.clients) < 2:
            raise PrivFedTalkError(
                f"{len(self.clients)} of the clients of {method} in {run.root} may be trained on and generated; an "
                "inversion compares two at least",
                "record what they agreed to: " + command("consent grant", "CLIENT", run=run.root, who="NAME")
                if len(took_part) > 1
                else "a federation of one client has nobody to mistake its client for: prepare more",
            )
        lines = read_json_lines(run.rounds(method)) if run.rounds(method).exists() else []
        records = [RoundRecord(**line) for line in lines]
        self.number = len(records) + 1
        self.announced = Announcement(
            self.number, self.theta, self._shared(records), last_counted(self.clients, records)
        )

    def window(self, client: str) -> Scene:
        """One random window of a client's training clips, with its draw of noise and timestep."""
        rng = seeding.generator(self.seed, "inversion", client)
        clips = (ClipTensors.from_sample(sample) for sample in self.storage.samples(client, "train"))
        return next(scenes(clips, self.trainer.backbone.settings.window, self.training, rng))

    def step(self, scene: Scene) -> LocalUpdate:
        """The update of one gradient step on one window, as long as clipping allows, in the client's own precision."""
        trainer = self.trainer
        trainer.adapter.load_vector(self.theta)
        down = -gradient(
            trainer.backbone, trainer.adapter.parameters, scene.window, scene.draw, self.training.objective
        ).numpy()
        length = min(self.training.privacy.clip_norm, 1e3) / max(float(np.linalg.norm(down)), 1e-30)
        return LocalUpdate(down * np.float32(length), self.training.privacy.n_max, 1.0, {}, 0.0)

    def round(self, client: str) -> LocalUpdate:
        """The update of the run's own local steps, without the rest of what the client would send."""
        return replace(self.trainer.train(client, self.announced), extra={})

    def _shared(self, records: Sequence[RoundRecord]) -> State:
        """What the server would announce besides theta, from its state after the last round, where that is kept."""
        server, folder = (
            server_of(self.method, self.training, self.trainer.adapter.factors),
            self.run.federation(self.method),
        )
        kept = folder / "checkpoint" / f"round-{len(records):05d}.safetensors"
        if not kept.exists():
            return server.announce(server.initial(self.theta))
        vectors = {name: value.numpy() for name, value in load_file(kept).items()}
        state = {name.removeprefix("server."): value for name, value in vectors.items() if name.startswith("server.")}
        return server.announce(state)


def scenes(
    clips: Iterator[ClipTensors], frames: int, training: TrainingSettings, rng: np.random.Generator
) -> Iterator[Scene]:
    """Endless random windows of clips, each with a draw of its own."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    for window in stream_batches(clips, 1, frames, rng):
        yield Scene(window, Draw.sample(window.latents, training.objective, generator))


def attack(
    run: RunFolder,
    method: str,
    training: TrainingSettings,
    seed: int,
    settings: InversionSettings,
    public: RunFolder | None = None,
) -> Attacked:
    """All attacks on the method's clients; some minutes on one core. public: the run with the public split, where that
    is not `run`."""
    victims = Victims(run, method, training, seed, settings)
    chosen = victims.clients[: settings.clients]
    clips = list(islice(stream_public(public or run), MOST_PUBLIC_CLIPS))
    prior = Prior.of(clips)
    own = {client: victims.window(client) for client in victims.clients}
    rng = seeding.generator(seed, "inversion", "guesses")
    frames = victims.trainer.backbone.settings.window
    stream = scenes(iter(clips), frames, victims.training, rng)
    guesses = list(islice(stream, settings.guesses))
    steps = {client: victims.step(scene) for client, scene in own.items()}
    rounds = {client: victims.round(client) for client in track(victims.clients, "local updates", unit="clients")}
    attacker = Attacker(victims, prior, guesses, settings)
    privacy = victims.training.privacy
    attacks: list[Attack] = []
    views: dict[str, dict[str, Seen]] = {}
    for name, updates in ((ONE_STEP, steps), (ROUND, rounds)):
        views[name] = sums_seen(updates, privacy, seed, victims.number)
    plans = [(ONE_STEP, steps, KNOWN), (ONE_STEP, steps, GUESSED), (ROUND, rounds, GUESSED)]
    todo = [(name, updates, knows, sees) for name, updates, knows in plans for sees in (RAW, *views[name])]
    for name, updates, knows, sees in track(todo, "gradient inversion", unit="views"):
        if sees == RAW:
            seen = [Seen(updates[client].delta.astype(np.float64)) for client in chosen]
            found = [
                attacker.known(one, [own[client]]) if knows == KNOWN else attacker.guessed(one, name)
                for one, client in zip(seen, chosen, strict=True)
            ]
            faces = torch.cat([one.references for one in found])
        elif knows == KNOWN:
            found = [attacker.known(views[name][sees], list(own.values()))]
            faces = found[0].references[: len(chosen)]
        else:
            found = [attacker.guessed(views[name][sees], name)]
            faces = found[0].references.expand(len(chosen), -1, -1, -1)
        attacks.append(
            Attack(name, sees, knows, faces, [one.cosine for one in found], sum(one.stalled for one in found))
        )
    truth = torch.cat([own[client].window.reference for client in chosen])
    return Attacked(chosen, len(victims.clients), truth, prior.face.mean, attacks)


class Attacker:
    """Both attackers, at the adapter that the round began with."""

    def __init__(self, victims: Victims, prior: Prior, guesses: Sequence[Scene], settings: InversionSettings) -> None:
        self.victims, self.prior, self.guesses, self.settings = victims, prior, guesses, settings
        self._adam: Tensor | None = None

    def known(self, seen: Seen, own: Sequence[Scene]) -> Inverted:
        """Every window's pictures, from one step's update or a sum of such; the scenes' own pictures are not used."""
        blank = [
            Scene(
                replace(
                    scene.window,
                    latents=torch.zeros_like(scene.window.latents),
                    reference=torch.zeros_like(scene.window.reference),
                ),
                scene.draw,
            )
            for scene in own
        ]
        guess = OwnFaces(blank, self.prior)
        return self._invert(seen.vector, guess, blank, seen.trust, self.settings.steps, unit=len(own) > 1)

    def guessed(self, seen: Seen, update: str) -> Inverted:
        """One face, from an update about which nothing else is known."""
        trust = min(seen.trust, self.settings.guessed_trust * min(1.0, (1 - seen.noise_share**2)))
        weights = self._as_adam_steps() if update == ROUND else None
        guess = OneFace(self.guesses, self.prior)
        steps = self.settings.guessed_steps
        return self._invert(seen.vector, guess, self.guesses, trust, steps, weights)

    def _invert(
        self,
        vector: np.ndarray[Any, np.dtype[np.float64]],
        guess: OwnFaces | OneFace,
        scenes: Sequence[Scene],
        trust: float,
        steps: int,
        weights: Tensor | None = None,
        unit: bool = False,
    ) -> Inverted:
        trainer = self.victims.trainer
        trainer.adapter.load_vector(self.victims.theta)
        # An update points against the gradient.
        observed = -torch.from_numpy(vector.astype(np.float32))
        draws = [scene.draw for scene in scenes]
        return invert(
            trainer.backbone, trainer.adapter.parameters, observed, guess, draws,
            self.victims.training.objective, max(trust, 1e-6), steps, weights, unit,
        )  # fmt: skip

    def _as_adam_steps(self) -> Tensor:
        """Weights [d] that turn a gradient into the direction of AdamW's steps: one over its usual size."""
        if self._adam is None:
            trainer, objective = self.victims.trainer, self.victims.training.objective
            trainer.adapter.load_vector(self.victims.theta)
            parts = [
                gradient(trainer.backbone, trainer.adapter.parameters, scene.window, scene.draw, objective)
                for scene in self.guesses
            ]
            usual = torch.stack(parts).square().mean(0).sqrt()
            self._adam = 1 / (usual + 0.1 * usual.mean())
        return self._adam


def _load_checked(adapter: Adapter, folder: Path) -> None:
    """Load a saved adapter into `adapter`; PrivFedTalkError where its backbone, rank or layers differ."""
    checked = read_adapter(folder)
    saved = {name: tuple(tensor.shape) for name, tensor in checked.tensors.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(adapter.model).items()}
    if checked.record["base_sha256"] != adapter.base_sha256 or saved != wanted:
        raise PrivFedTalkError(
            f"the adapter in {folder} has another backbone, rank or layers than the run's settings give",
            "use the settings that it was trained with (training.adapter), or train it again",
        )
    set_peft_model_state_dict(adapter.model, {name: torch.from_numpy(one) for name, one in checked.tensors.items()})
