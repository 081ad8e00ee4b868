"""One client's part of a round: train the adapter on its own shards, score it on its own held-out clips.

Everything here runs on the client; what leaves it is made by `training.privacy` from the `LocalUpdate`.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from preparation import seeding
from preparation.shards import Sample, read_shards
from training.adapter import Adapter
from training.autoencoders.base import Autoencoder
from training.backbone.tiny import TinyBackbone
from training.data import ClipTensors, stream_batches
from training.generation import Generator
from training.objective import Draw, local_objective
from training.pixel_terms import PixelTerms
from training.rulers import IdentityRuler
from training.score import identity_similarity, reliability, temporal_stability
from training.settings import TrainingSettings
from training.validation import validation_loss


@dataclass(frozen=True)
class LocalUpdate:
    """What a client knows after local training; private until `training.privacy` has made it safe."""

    delta: npt.NDArray[np.float32]
    clips: int
    score: float
    losses: dict[str, float]
    seconds: float


class ClientTrainer:
    """Trains any client with one backbone, one adapter and one optimiser, built once for all of them."""

    def __init__(
        self,
        folder_of: Callable[[str], Path],
        backbone: TinyBackbone,
        vae: Autoencoder,
        identity: IdentityRuler,
        settings: TrainingSettings,
        seed: int,
        pixel_terms: PixelTerms | None = None,
    ) -> None:
        self.folder_of = folder_of
        self.settings, self.seed = settings, seed
        self.adapter = Adapter(backbone, settings.adapter, seed)
        self.vae, self.identity = vae, identity
        self.device = next(backbone.parameters()).device
        self.pixel_terms = pixel_terms
        if pixel_terms:
            pixel_terms.to(self.device)
        # Clients that come back soon are not read again; a few dozen small clients is all that is held.
        self._clips = lru_cache(maxsize=64)(self._read_clips)
        self._score_clip = lru_cache(maxsize=64)(self._read_score_clip)

    def train(self, client: str, theta: npt.NDArray[np.float32], round_number: int) -> LocalUpdate:
        """Algorithm 1, step 2, up to the score: load theta, train, evaluate (s_k, n_k)."""
        started = time.perf_counter()
        settings = self.settings.federation
        clips = self._clips(client, "train")
        rng = seeding.generator(self.seed, "local", client, str(round_number))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.adapter.load_vector(theta)
        backbone = self._backbone()
        optimizer = torch.optim.AdamW(self.adapter.parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True)
        batches = stream_batches(iter(clips), settings.batch_size, backbone.settings.window, rng)
        sums: defaultdict[str, float] = defaultdict(float)
        for batch in itertools.islice(batches, settings.local_steps):
            batch = batch.to(self.device)
            draw = Draw.sample(batch.latents, self.settings.objective, generator)
            losses = local_objective(backbone, batch, draw, self.settings.objective, self.pixel_terms)
            optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            nn.utils.clip_grad_norm_(self.adapter.parameters, 1.0)
            optimizer.step()
            for name, loss in losses.by_name().items():
                sums[name] += loss.item() / settings.local_steps
        delta = self.adapter.vector() - theta
        score = self.score(client, round_number)
        return LocalUpdate(delta, len(clips), score, dict(sums), time.perf_counter() - started)

    def score(self, client: str, round_number: int) -> float:
        """s_k: generate a held-out clip of the client with the adapter as it stands, and look at it."""
        truth, sample = self._score_clip(client)
        settings = self.settings
        sampler = settings.generation.model_copy(update={"steps": settings.federation.score_steps})
        generator = Generator(self._backbone(), self.vae, sampler, settings.objective.shared_noise)
        frames = generator.frames(
            torch.from_numpy(sample.reference_latent.astype(np.float32)).to(self.device),
            torch.from_numpy(sample.speech[: len(truth)].astype(np.float32)).to(self.device),
            seed=int(seeding.generator(self.seed, "score", client, str(round_number)).integers(2**62)),
        )
        embeddings = self.identity.embed(np.concatenate([frames, sample.reference[None]]))
        id_sim = identity_similarity(embeddings[:-1], embeddings[-1])
        return reliability(id_sim, temporal_stability(frames, truth), settings.federation.score_alpha)

    def validation_loss(self, client: str, theta: npt.NDArray[np.float32], split: str = "test") -> float:
        """Paired denoising loss on a client's held-out clips; for evaluation, never sent to the server."""
        self.adapter.load_vector(theta)
        return validation_loss(self._backbone(), self._clips(client, split), self.settings.objective, self.seed)

    def _backbone(self) -> TinyBackbone:
        backbone = self.adapter.backbone
        assert isinstance(backbone, TinyBackbone)
        return backbone

    def _read_clips(self, client: str, split: str) -> tuple[ClipTensors, ...]:
        samples = read_shards(self.folder_of(client), split)
        return tuple(ClipTensors.from_sample(sample) for sample in samples)

    def _read_score_clip(self, client: str) -> tuple[npt.NDArray[np.uint8], Sample]:
        """A validation clip's sample, and its first frames as the autoencoder shows them."""
        sample = next(iter(read_shards(self.folder_of(client), "validation")))
        frames = self.settings.federation.score_frames
        latents = torch.from_numpy(sample.latents[:frames].astype(np.float32))
        return self.vae.decode_latents(latents), sample
