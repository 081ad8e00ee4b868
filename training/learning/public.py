"""Data of the public split: frames for the autoencoder and the rulers, clips for the backbone and validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.progress import track
from preparation.clients.roles import ClientTable, load_people, of_role
from preparation.faces.landmarks import eye_boxes, mouth_box, mouth_opening
from preparation.shards.gate import Gate
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.small import SmallVae, train_vae
from training.model.autoencoders.sources import SMALL, open_pretrained
from training.model.data import ClipTensors, coverage
from training.model.device import choose_device
from training.settings import VaeSettings

HELD_FRAMES = 8192
"""Frames held in memory at once: 400 MB at 128 pixels. A larger public split is thinned out evenly."""

MEASURED_FRAMES = 512
"""Frames on which a pretrained autoencoder's latents are standardised; 512 x 256 cells give a mean to a thousandth."""


@dataclass(frozen=True)
class PublicFrames:
    """Frames of public speakers' crops, thinned evenly over clips and time.

    frames uint8 [N, H, W, 3]; landmarks float32 [N, 68, 2] in crop pixels; openings float32 [N], the true mouth
    opening where the corpus knows it, else the landmarks'; speakers, N names.
    """

    frames: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    openings: npt.NDArray[np.float32]
    speakers: list[str]

    def features(self) -> npt.NDArray[np.bool_]:
        """Where mouth and eyes lie, on the small autoencoder's grid: bool [N, H/8, W/8]."""
        pixels = self.frames.shape[1]
        cells = pixels // SmallVae.downscale
        boxes = [[mouth_box(points, pixels), *eye_boxes(points, pixels)] for points in self.landmarks]
        covered = [coverage(column, cells, SmallVae.downscale) for column in zip(*boxes, strict=True)]
        return np.maximum.reduce(covered) > 0


def read_public_frames(run: RunFolder, limit: int = HELD_FRAMES) -> PublicFrames:
    """Frames of the public speakers of the training split, not of those held out for validation."""
    table, gate = load_people(run), _gate(run)
    crops = [
        (speaker, gate.crop(speaker, clip_id))
        for speaker in gate.admit(of_role(table, "public"), "public training")
        for clip_id in table[speaker].splits["train"]
        if gate.has_crop(clip_id)
    ]
    if not crops:
        raise PrivFedTalkError(
            f"no public speaker in {run.root} has a usable clip to train on",
            remedy="raise preparation.clients.public_speaker_fraction, or give more clips",
        )
    every = max(1, -(-sum(len(crop.landmarks) for _, crop in crops) // limit))
    kept: list[tuple[str, npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    for speaker, crop in track(crops, "public frames", unit="clips"):
        opening = mouth_opening(crop.landmarks) if crop.mouth_opening is None else crop.mouth_opening
        frames = np.stack(list(islice(crop.frames(), 0, len(crop.landmarks), every)))
        kept.append((speaker, frames, crop.landmarks[::every], opening[::every]))
    return PublicFrames(
        frames=np.concatenate([frames for _, frames, _, _ in kept]),
        landmarks=np.concatenate([landmarks for _, _, landmarks, _ in kept]),
        openings=np.concatenate([opening for _, _, _, opening in kept]).astype(np.float32),
        speakers=[speaker for speaker, frames, _, _ in kept for _ in frames],
    )


def make_vae(
    run: RunFolder, settings: VaeSettings, seed: int, device: torch.device | None = None, workers: int = 1
) -> Autoencoder:
    """The run's autoencoder: trained on public frames, or pretrained and standardised on them.

    `device` is where the small one is trained; by default the CPU, where the demo's figures are the same everywhere.
    """
    if settings.source == SMALL:
        public = read_public_frames(run)
        return train_vae(public.frames, public.features(), settings, seed, device, workers)
    model = open_pretrained(settings.source)
    model.to(choose_device())
    model.standardise(read_public_frames(run, MEASURED_FRAMES).frames)
    return model.cpu()


def stream_public(run: RunFolder) -> Iterator[ClipTensors]:
    """Training clips of public speakers from their shards, one at a time."""
    gate = _gate(run)
    for speaker in gate.admit(_with_clips(load_people(run), "train"), "public training"):
        for sample in gate.samples(speaker, "train"):
            yield ClipTensors.from_sample(sample)


def read_public_validation(run: RunFolder, most_clips: int = 24) -> list[ClipTensors]:
    """Clips of held-out public speakers; choosing a checkpoint on them costs no privacy."""
    gate = _gate(run)
    speakers = gate.admit(_with_clips(load_people(run), "validation"), "public training")
    clips = _held_out(gate, speakers, most_clips)
    if not clips:
        raise PrivFedTalkError(
            f"no public speaker in {run.root} is held out for validation",
            remedy="give at least three public speakers, or raise preparation.clients.public_validation_fraction",
        )
    return clips


def read_federation_validation(run: RunFolder, public: RunFolder, most_clips: int = 24) -> list[ClipTensors]:
    """Clips on which a federation's rounds are compared: volunteers', or, without any, held-out public speakers' of the
    run `public`.

    If clients look or sound unlike the public speakers, the public loss rises while the clients' loss falls, and only
    volunteers show which round was best.
    """
    table, gate = load_people(run), _gate(run)
    volunteers = gate.admit(of_role(table, "volunteer"), "the comparison of rounds")
    return _held_out(gate, volunteers, most_clips) or read_public_validation(public, most_clips)


def _held_out(gate: Gate, people: Sequence[str], most_clips: int) -> list[ClipTensors]:
    """Validation clips, at most `most_clips` in all and the same number of each person, as far as they have them."""
    each = -(-most_clips // max(1, len(people)))
    samples = (sample for name in people for sample in islice(gate.samples(name, "validation"), each))
    return [ClipTensors.from_sample(sample) for sample in islice(samples, most_clips)]


def digest_of(clips: Iterable[ClipTensors]) -> str:
    """SHA-256 of the clips' tensors on which a loss depends."""
    digest = hashlib.sha256()
    for clip in clips:
        for tensor in (clip.latents, clip.speech, clip.reference, clip.motion):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _gate(run: RunFolder) -> Gate:
    """A gate that requires no consent record, as public speakers and volunteers need none, but obeys any there is."""
    return Gate(run, "training", required=False)


def _with_clips(table: ClientTable, split: str) -> Sequence[str]:
    return [speaker for speaker in of_role(table, "public") if table[speaker].splits[split]]
