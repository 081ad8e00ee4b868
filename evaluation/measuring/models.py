"""The models that are compared: how each method, reference and gate makes frames, and the denoiser of its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from common import seeding
from common.errors import PrivFedTalkError
from common.folders import ADAPTER_WEIGHTS, RunFolder
from common.workers import map_threads
from evaluation.catalogue import PERSONAL
from evaluation.measuring.protocol import copy_reference
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, Generate
from preparation.clients.consent import check_generation
from preparation.clients.roles import load_clients, of_role
from preparation.shards.gate import Gate
from training.adapters.adapter import load_adapted
from training.adapters.origin import check_origin
from training.federation.methods import METHODS, named
from training.generation.frames import Generator
from training.learning.validation import validation_loss
from training.model.autoencoders.sources import load_autoencoder
from training.model.backbones.interface import Backbone
from training.model.backbones.kinds import load_backbone, untrained_like
from training.model.data import ClipTensors
from training.model.device import choose_device, deterministic
from training.settings import ObjectiveSettings, TrainingSettings

DenoiserOf = Callable[[str], Backbone]


@dataclass(frozen=True)
class ComparedModel:
    """A model that makes frames of a clip.

    `speaks` is False where the frames do not depend on speech. `denoiser` maps a client to the denoiser that serves it,
    and is None where the model has no denoiser whose loss could be measured.
    """

    generate: Generate
    speaks: bool = True
    denoiser: DenoiserOf | None = None


def open_model(run: RunFolder, method: str, settings: TrainingSettings, seed: int) -> ComparedModel:
    """Open a reference by its name, or a method with the adapter in the run's folder.

    A method's name stands for its shared adapter, `catalogue.personal_of(method)` for each client's own adapter where
    the client has one. A method without a shared adapter has its own name only, which stands for the clients' adapters.
    """
    if method in REFERENCES:
        return REFERENCES[method](run, settings, seed)
    base = method.removesuffix(PERSONAL)
    return _adapted(base, own=method != base or not named(base).sends)(run, settings, seed)


def has_personal(run: RunFolder, method: str) -> bool:
    """Whether the method's clients have adapters of their own beside the shared one."""
    return (
        method in METHODS
        and named(method).sends
        and any(run.root.glob(f"clients/*/methods/{method}/adapter/adapter_model.safetensors"))
    )


def client_losses(
    run: RunFolder,
    denoiser_of: DenoiserOf,
    settings: ObjectiveSettings,
    seed: int,
    split: str = "test",
    required: bool = True,
    workers: int = 1,
) -> dict[str, float]:
    """Each client's loss on its held-out clips; noise and timesteps are the same for every denoiser.

    Clients who may not be generated are left out; `required` is `training.consent.required`. `workers` clients are
    worked on side by side.
    """
    gate = Gate(run, "generation", required)

    def loss_of(client: str) -> float | None:
        clips = [ClipTensors.from_sample(sample) for sample in gate.samples(client, split)]
        denoiser = denoiser_of(client)
        if any(len(clip.latents) >= denoiser.settings.window for clip in clips):
            return validation_loss(denoiser, clips, settings, seed)
        return None

    clients = gate.admit(of_role(load_clients(run.clients_table), "client"), "the evaluation")
    losses = zip(clients, map_threads(loss_of, clients, workers), strict=True)
    return {client: loss for client, loss in losses if loss is not None}


def _frozen_backbone(run: RunFolder, settings: TrainingSettings, seed: int) -> ComparedModel:
    backbone = load_backbone(run.model("backbone")).to(choose_device())
    return _generating(lambda client: backbone, run, settings, seed)


def _adapted(method: str, own: bool) -> Callable[[RunFolder, TrainingSettings, int], ComparedModel]:
    """A function that opens a method's shared adapter or, with `own`, each client's own adapter where it has one.

    Opening a client's own adapter raises PrivFedTalkError where the client may not be generated.
    """

    def opened(run: RunFolder, settings: TrainingSettings, seed: int) -> ComparedModel:
        if not (run.adapter(method) / ADAPTER_WEIGHTS).exists():
            known = ", ".join(REFERENCES)
            raise PrivFedTalkError(
                f"{run.root} holds no adapter of a method {method!r}",
                remedy=f"train it first, or choose one of {known}",
            )

        @lru_cache(maxsize=2)  # clips come client by client
        def with_adapter(folder: Path) -> Backbone:
            check_origin(run, folder)
            return load_adapted(load_backbone(run.model("backbone")), folder, merged=True).to(choose_device())

        def denoiser_of(client: str) -> Backbone:
            folder = run.client_adapter(client, method)
            served = own and (folder / ADAPTER_WEIGHTS).exists()
            if served:
                check_generation(run, client, settings.consent.required)
            return with_adapter(folder if served else run.adapter(method))

        return _generating(denoiser_of, run, settings, seed)

    return opened


def _untrained(run: RunFolder, settings: TrainingSettings, seed: int) -> ComparedModel:
    with deterministic(seed):
        backbone = untrained_like(load_backbone(run.model("backbone"))).to(choose_device())
    return _generating(lambda client: backbone, run, settings, seed)


def _still(run: RunFolder, settings: TrainingSettings, seed: int) -> ComparedModel:
    return ComparedModel(copy_reference, speaks=False)


def _vae_ceiling(run: RunFolder, settings: TrainingSettings, seed: int) -> ComparedModel:
    vae = load_autoencoder(run.model("vae")).to(choose_device())

    def coded(clip: EvaluationClip, speech: Floats) -> Frames:
        return vae.decode_latents(torch.from_numpy(vae.encode_frames(clip.frames)))

    return ComparedModel(coded, speaks=False)


def _generating(denoiser_of: DenoiserOf, run: RunFolder, settings: TrainingSettings, seed: int) -> ComparedModel:
    """The model that generates from one picture and speech; every method draws the same noise for the same clip."""
    device = choose_device()
    vae = load_autoencoder(run.model("vae")).to(device)

    def generate(clip: EvaluationClip, speech: Floats) -> Frames:
        denoiser = denoiser_of(clip.client)
        generator = Generator(denoiser, vae, settings.generation, settings.objective.shared_noise)
        reference = torch.from_numpy(vae.encode_frames(clip.reference[None])[0]).to(device)
        draw = int(seeding.generator(seed, "generation", clip.clip_id).integers(2**62))
        return generator.frames(reference, torch.from_numpy(speech).to(device), draw)

    return ComparedModel(generate, denoiser=denoiser_of)


REFERENCES: Mapping[str, Callable[[RunFolder, TrainingSettings, int], ComparedModel]] = {
    "backbone": _frozen_backbone,
    "copy_reference": _still,
    "vae_ceiling": _vae_ceiling,
    "noise": _untrained,
}
