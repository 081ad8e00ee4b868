"""Spoils the clips of some clients, which a reliability score would have to notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from common import seeding
from preparation.shards.store import Sample
from training.model.autoencoders.base import Autoencoder

Defect = Literal["", "noisy", "wrong_audio", "few"]

DEFECTS: dict[int, Defect] = {0: "noisy", 1: "noisy", 2: "wrong_audio", 3: "wrong_audio", 4: "few"}
"""Client's number -> its defect in a spoiled world; the other clients are good."""

NOISE = 40.0
"""Standard deviation of the grain in a noisy video, on a scale of 255: faces stay recognisable, lips do not."""


def spoil(sample: Sample, defect: Defect, donor: Sequence[Sample], vae: Autoencoder, seed: int) -> Sample:
    """The sample as a client with that defect has it; test samples stay good, because clients are measured on them.

    noisy: grain on every decoded frame, which is encoded again. wrong_audio: the speech of a sample of `donor`.
    """
    if sample.split == "test":
        return sample
    if defect == "noisy":
        rng = seeding.generator(seed, "grain", sample.clip_id)
        frames = vae.decode_latents(torch.from_numpy(sample.latents.astype(np.float32)))
        grain = rng.normal(0, NOISE, frames.shape)
        noisy = np.clip(frames + grain, 0, 255).round().astype(np.uint8)
        return replace(sample, latents=vae.encode_frames(noisy).astype(np.float16))
    if defect == "wrong_audio":
        rng = seeding.generator(seed, "foreign", sample.clip_id)
        other = donor[int(rng.integers(len(donor)))]
        return replace(sample, speech=np.resize(other.speech, sample.speech.shape))
    return sample
