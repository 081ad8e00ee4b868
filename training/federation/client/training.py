"""One client's part of a round: train the adapter on its own shards, score it on its own held-out clips.

Everything here runs on the client. `training.privacy` makes from the `LocalUpdate` what leaves the client.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.files import remove_folder
from common.folders import ADAPTER_RECORD
from preparation.shards.store import Sample, load_index
from training.adapters.adapter import Adapter
from training.adapters.membership import POOLED
from training.adapters.origin import theta_sha256
from training.adapters.record import OWN_ADAPTER
from training.federation.client.score import (
    UNMEASURED,
    Scored,
    identity_similarity,
    reliability,
    speech_dependence,
    temporal_stability,
)
from training.federation.client.storage import ClientStorage
from training.federation.methods import named
from training.federation.methods.base import LocalRule, State
from training.generation.frames import Generator
from training.learning.validation import validation_loss
from training.model.autoencoders.base import Autoencoder
from training.model.backbones.interface import Backbone
from training.model.data import Batch, ClipTensors, longest, stream_batches
from training.model.frozen.pixel_terms import PixelTerms
from training.model.frozen.rulers import IdentityRuler
from training.model.objective import Draw, feature_weight, local_objective
from training.privacy.accounting.coins import client_draws
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Announcement:
    """What the server sends to the clients at the start of a round; `shared` is what the method sends beside theta.

    `counted` maps each of the round's clients to the last round in which its update entered the sum (absent: none
    yet). A client continues from the state it kept after that round; a state from a later round, one whose update was
    lost, is ignored. `clip_norm` is C, to which the round's updates will be clipped.
    """

    round: int
    theta: npt.NDArray[np.float32]
    shared: State = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    clip_norm: float = math.inf

    @property
    def nbytes(self) -> int:
        """Bytes of its vectors."""
        return self.theta.nbytes + sum(value.nbytes for value in self.shared.values())


@dataclass(frozen=True)
class LocalUpdate:
    """The result of a client's local training; private until `training.privacy` has protected it.

    `extra` is what the method's clients send beside delta, in methods without a privacy guarantee. `identity` and
    `stability` are the parts of the score, see `training.federation.client.score`.
    """

    delta: npt.NDArray[np.float32]
    clips: int
    score: float
    losses: dict[str, float]
    seconds: float
    extra: State = field(default_factory=dict)
    identity: float = math.nan
    stability: float = math.nan

    @property
    def vector_bytes(self) -> int:
        """Bytes of its vectors, four a number, as they would travel without masks and headers."""
        return self.delta.nbytes + sum(value.nbytes for value in self.extra.values())


class ClientTrainer:
    """Trains any client with one backbone and one adapter, built once for all of them."""

    def __init__(
        self,
        storage: ClientStorage,
        backbone: Backbone | Adapter,
        vae: Autoencoder,
        identity: IdentityRuler,
        settings: TrainingSettings,
        seed: int,
        pixel_terms: PixelTerms | None = None,
    ) -> None:
        self.storage, self.method = storage, named(storage.method)
        self.settings, self.seed = settings, seed
        # A backbone that already has its adapter can serve one method after another.
        self.adapter = backbone if isinstance(backbone, Adapter) else Adapter(backbone, settings.adapter, seed)
        self.vae, self.identity = vae, identity
        self.device = self.adapter.parameters[0].device
        self.pixel_terms = pixel_terms
        if pixel_terms:
            pixel_terms.to(self.device)
        # Clients that come back soon are not read again; at most 64 entries are held in memory.
        self._clips = lru_cache(maxsize=64)(self._read_clips)
        self._score_clips = lru_cache(maxsize=64)(self._read_score_clips)

    def train(self, client: str, announced: Announcement) -> LocalUpdate:
        """Algorithm 1, step 2, up to the score: load theta, train, evaluate (s_k, n_k)."""
        started = time.perf_counter()
        number, before = announced.round, announced.counted.get(client, 0)
        rng = client_draws(self.settings.privacy, self.seed, "local", client, str(number))
        kept = self.storage.load_state(client, before)
        rule = self.method.local_rule(self.settings, announced.shared, dict(kept))
        self.adapter.load_vector(rule.start(announced.theta))
        losses = self._descend(client, rule, self.settings.federation.local_steps, rng)
        delta = (self.adapter.vector() - announced.theta)[: len(self.adapter)]
        # A client whose training diverged counts for nothing in this round and keeps its former state.
        self.storage.save_state(client, number, before, rule.state if np.isfinite(delta).all() else kept)
        scored, seconds = self.score(client, number), time.perf_counter() - started
        faces = {"identity": scored.identity, "stability": scored.stability}
        return LocalUpdate(delta, self._count(client), scored.score, losses, seconds, rule.extra, **faces)

    def personalise(self, client: str, theta: npt.NDArray[np.float32], steps: int) -> None:
        """Fit the federation's theta to the client's own clips, by plain AdamW, and save it in the client's folder.

        An adapter that already exists, made from the same theta under the same settings, is kept.
        """
        folder = self.storage.adapter(client)
        facts = folder / ADAPTER_RECORD
        parts = [theta.tobytes(), self.settings.fingerprint().encode(), f"{self.seed} {steps}".encode()]
        made_from = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
        if facts.exists() and json.loads(facts.read_text(encoding="utf-8")).get("made_from") == made_from:
            return
        self.adapter.load_vector(theta)
        rng = client_draws(self.settings.privacy, self.seed, "personal", client)
        self._descend(client, LocalRule(self.settings, {}, {}), steps, rng)
        if not np.isfinite(self.adapter.vector()).all():  # the client uses the shared adapter instead
            remove_folder(folder)
            sys.stderr.write(f"personalisation: {client} has no adapter of its own, its training diverged\n")
            return
        metadata = {"method": self.storage.method, "client": client, "made_from": made_from, "privacy": OWN_ADAPTER}
        metadata["begun_from"] = theta_sha256(theta)
        self.adapter.save(folder, self.adapter.vector(), metadata)

    def _descend(self, client: str, rule: LocalRule, steps: int, rng: np.random.Generator) -> dict[str, float]:
        """Train the current adapter for `steps` steps on the client's clips; return the mean losses."""
        settings = self.settings.federation
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        backbone = self.backbone
        parameters = self.adapter.parameters
        optimizer = rule.begin(parameters)
        clips = self._training_clips(client, rng)
        batches = stream_batches(clips, settings.batch_size, backbone.settings.window, rng)
        losses = []
        for batch in itertools.islice(batches, steps):
            draw = Draw.sample(batch.latents, self.settings.objective, generator)
            losses.append(self.step(batch.to(self.device), draw.to(self.device), rule, optimizer))
        rule.end(parameters, optimizer)
        return _means(losses)

    def step(self, batch: Batch, draw: Draw, rule: LocalRule, optimizer: Optimizer) -> dict[str, Tensor]:
        """Take one optimiser step on a batch that is on the device; return the batch's losses, still on the device."""
        parameters = self.adapter.parameters
        optimizer.zero_grad(set_to_none=True)
        losses = self._backward(batch, draw)
        rule.correct(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rule.after_step(parameters, optimizer)
        return losses

    def _backward(self, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """Accumulate the batch's gradients, `micro_batch` windows at a time; return the batch's losses, float64."""
        objective, windows = self.settings.objective, len(batch.latents)
        at_once = self.settings.federation.micro_batch or windows
        weight = feature_weight(batch, objective)
        sums: dict[str, Tensor] = {}
        for start in range(0, windows, at_once):
            cut = slice(start, min(start + at_once, windows))
            share = (cut.stop - cut.start) / windows
            losses = local_objective(
                self.backbone, batch.part(cut), draw.part(cut), objective, self.pixel_terms, weight[cut]
            )
            (losses.total * share).backward()
            for name, loss in losses.by_name().items():
                part = loss.detach().double() * share
                sums[name] = sums[name] + part if name in sums else part
        return sums

    def score(self, client: str, round_number: int) -> Scored:
        """s_k of the client under the current adapter, from generated held-out clips or from its speech dependence;
        `UNMEASURED` for a client without a clip to measure it on."""
        if self.settings.federation.score == "speech":
            return Scored(self._speech_score(client))
        if not self._score_clips(client):
            return Scored(UNMEASURED)
        parts = []
        for index, (truth, sample) in enumerate(self._score_clips(client)):
            labels = ("score", client, str(round_number), *([str(index)] if index else []))
            draw = int(client_draws(self.settings.privacy, self.seed, *labels).integers(2**62))
            parts.append(self._face_scores(truth, sample, draw))
        id_sim, stability = (float(np.mean(part)) for part in zip(*parts, strict=True))
        return Scored(reliability(id_sim, stability, self.settings.federation.score_alpha), id_sim, stability)

    def _face_scores(self, truth: npt.NDArray[np.uint8], sample: Sample, seed: int) -> tuple[float, float]:
        """IDSim and TempStab of a clip generated from the sample's reference and speech, as long as `truth`."""
        settings = self.settings
        sampler = settings.generation.model_copy(update={"steps": settings.federation.score_steps})
        generator = Generator(self.backbone, self.vae, sampler, settings.objective.shared_noise)
        frames = generator.frames(
            torch.from_numpy(sample.reference_latent.astype(np.float32)).to(self.device),
            torch.from_numpy(sample.speech[: len(truth)].astype(np.float32)).to(self.device),
            seed=seed,
        )
        embeddings = self.identity.embed(np.concatenate([frames, sample.reference[None]]))
        return identity_similarity(embeddings[:-1], embeddings[-1]), temporal_stability(frames, truth)

    def _speech_score(self, client: str) -> float:
        """s_k by `speech_dependence` on the client's validation clips, with the same noise for both speeches."""
        clips = self._clips(client, "validation")
        window = self.backbone.settings.window
        if longest((len(clip.latents) for clip in clips), window) < window:
            return UNMEASURED
        moved = [replace(clip, speech=clip.speech.roll(len(clip.speech) // 2, 0)) for clip in clips]
        objective = self.settings.objective
        own, other = (validation_loss(self.backbone, some, objective, self.seed) for some in (clips, moved))
        return speech_dependence(own, other)

    def validation_loss(self, client: str, theta: npt.NDArray[np.float32], split: str = "test") -> float:
        """Paired denoising loss on a client's held-out clips; for evaluation, never sent to the server."""
        self.adapter.load_vector(theta)
        return validation_loss(self.backbone, self._clips(client, split), self.settings.objective, self.seed)

    @property
    def backbone(self) -> Backbone:
        """The backbone with the adapter active inside it."""
        return self.adapter.backbone

    def networks(self) -> list[nn.Module]:
        """The networks that are in memory while a client trains."""
        terms = self.pixel_terms.terms.values() if self.pixel_terms else ()
        return [self.adapter.model, self.vae, self.identity, *terms]

    def _training_clips(self, client: str, rng: np.random.Generator) -> Iterator[ClipTensors]:
        """Training clips: one client's are held in memory, a pool's are streamed, its members in random order."""
        self.storage.check(client)  # clips that are already in memory need consent too
        if client != POOLED:
            return iter(self._clips(client, "train"))
        members = self.storage.members(client)
        order = [members[i] for i in rng.permutation(len(members))]
        return (ClipTensors.from_sample(sample) for member in order for sample in self.storage.samples(member, "train"))

    def _count(self, client: str) -> int:
        """n_k, the number of clips to train on."""
        return sum(load_index(folder).splits.get("train", 0) for folder in self.storage.shards(client))

    def _read_clips(self, client: str, split: str) -> tuple[ClipTensors, ...]:
        return tuple(ClipTensors.from_sample(sample) for sample in self.storage.samples(client, split))

    def _read_score_clips(self, client: str) -> list[tuple[npt.NDArray[np.uint8], Sample]]:
        """(Decoded first frames, sample) of each validation clip; the frames went through the autoencoder."""
        settings = self.settings.federation
        samples = self.storage.samples(client, "validation")
        return [
            (self.vae.decode_latents(torch.from_numpy(each.latents[: settings.score_frames].astype(np.float32))), each)
            for each in itertools.islice(samples, settings.score_clips)
        ]


def _means(losses: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean of each loss over the steps. Losses are read only here: reading one makes a GPU wait after each step."""
    if not losses:
        return {}
    values = torch.stack([torch.stack(list(step.values())) for step in losses]).cpu().numpy()
    return {name: float(sum(column / len(losses))) for name, column in zip(losses[0], values.T, strict=True)}
