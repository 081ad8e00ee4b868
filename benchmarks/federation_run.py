"""A run of the demo's sizes with random weights, and the plain loops that `benchmarks/federation.py` compares with."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peft.tuners.lora.layer import Linear
from torch import nn

from common.folders import RunFolder
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.shards.store import Sample, write_shards
from preparation.speech.features import DIM, TOKENS, speech_features
from training.adapters.adapter import Adapter
from training.execution import open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer
from training.model.autoencoders.small import SmallVae
from training.model.autoencoders.sources import load_autoencoder
from training.model.backbones.interface import BackboneShape
from training.model.backbones.tiny import TinyBackbone
from training.model.data import Batch, collate, stream_batches, window
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.model.lora_layers import OneProductLinear
from training.model.objective import Draw, local_objective
from training.settings import BackboneSettings, TrainingSettings, VaeSettings

TRAIN_CLIPS, FRAMES, SIZE = 4, 50, 128


def make_run(root: Path, clients: int) -> RunFolder:
    """A run whose clients have four training clips of two seconds, as in the demo; weights and clips are random."""
    run = RunFolder(root)
    torch.manual_seed(0)
    vae = SmallVae(VaeSettings()).eval()
    shape = BackboneShape(
        latent_channels=VaeSettings().latent_channels,
        latent_size=SIZE // vae.downscale,
        speech_steps=TOKENS,
        speech_dim=DIM,
        motion_dim=12,
    )
    vae.save(run.model("vae"))
    TinyBackbone(BackboneSettings(), shape).save(run.model("backbone"))
    IdentityRuler().frozen().save(run.model("rulers") / "identity")
    OpeningRuler().frozen().save(run.model("rulers") / "opening")
    for number in range(clients):
        client = f"client{number:02d}"
        splits = ["train"] * TRAIN_CLIPS + ["validation", "validation", "test", "test"]
        write_shards(run.client(client), [_sample(client, number * 100 + i, split) for i, split in enumerate(splits)])
    return run


def batch_of(run: RunFolder, settings: TrainingSettings, count: int) -> Batch:
    """A batch of `count` windows of the first client's training clips."""
    trainer = open_trainer(ClientStorage(run, "fedavg"), settings, 0)
    clips = trainer._clips("client00", "train")
    return next(stream_batches(iter(clips), count, settings.backbone.window, np.random.default_rng(0)))


def _sample(client: str, seed: int, split: str) -> Sample:
    rng = np.random.default_rng(seed)
    side = SIZE // 8
    return Sample(
        key=f"{client}_{seed}",
        client=client,
        clip_id=f"{client}/{seed}",
        split=split,
        latents=rng.normal(size=(FRAMES, 8, side, side)).astype(np.float16),
        speech=rng.normal(size=(FRAMES, TOKENS, DIM)).astype(np.float16),
        reference_latent=rng.normal(size=(8, side, side)).astype(np.float16),
        reference=rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        landmarks=rng.normal(SIZE / 2, SIZE / 6, (FRAMES, 68, 2)).astype(np.float32),
        motion=(0.1 * rng.normal(size=(FRAMES, 12))).astype(np.float32),
    )


def make_clips(folder: Path) -> list[Path]:
    """As many mp4 crops as a client trains on: smooth moving pictures, which compress as faces do."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    paths = []
    for number in range(TRAIN_CLIPS):
        paths.append(folder / f"{number}.mp4")
        phases = np.linspace(0, 6, FRAMES) + number
        waves = [np.stack([np.sin(5 * x + p), np.sin(7 * y - p), np.sin(4 * (x + y) + 2 * p)], -1) for p in phases]
        sound = np.random.default_rng(number).normal(0, 3000, FRAMES * 640).astype(np.int16)
        encode(((127 + 100 * wave).astype(np.uint8) for wave in waves), sound, paths[-1])
    return paths


def bare_steps(trainer: ClientTrainer, client: str, steps: int) -> None:
    """A client's local steps in a plain loop on clips in memory: the least work of any federation."""
    federation = trainer.settings.federation
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    parameters = trainer.adapter.parameters
    optimizer = torch.optim.AdamW(parameters, lr=federation.learning_rate, weight_decay=0.0, fused=True)
    clips = iter(trainer._clips(client, "train"))
    batches = stream_batches(clips, federation.batch_size, trainer.backbone.settings.window, rng)
    _descend(trainer, parameters, optimizer, itertools.islice(batches, steps), generator)


@contextmanager
def pefts_products(model: nn.Module) -> Iterator[None]:
    """Inside, LoRA's layers compute as PEFT does, gradients included."""
    held = [layer for layer in model.modules() if isinstance(layer, OneProductLinear)]
    for layer in held:
        layer.__class__ = Linear
    yield
    for layer in held:
        layer.__class__ = OneProductLinear


def reference_client(
    trainer: ClientTrainer, client: str, clips: list[Path], steps: int, whole: bool
) -> dict[str, torch.Tensor]:
    """The paper's reference procedure for the same steps: models built for each client, clips with their sound decoded
    and encoded for each epoch, LoRA computed as PEFT does, the whole model's state sent, frozen weights and all.

    It encodes each clip `whole`, or only the window of it that is trained on.
    """
    run, settings = trainer.storage.run, trainer.settings
    vae = load_autoencoder(run.model("vae"))
    adapter = Adapter(TinyBackbone.load(run.model("backbone")), settings.adapter, trainer.seed)
    parameters = adapter.parameters
    optimizer = torch.optim.AdamW(parameters, lr=settings.federation.learning_rate, weight_decay=0.0)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    known = trainer._clips(client, "train")  # it gets motion and boxes for free

    def batches() -> Iterator:
        windows = []
        for clip, path in itertools.cycle(zip(known, clips, strict=True)):
            frames = np.stack(list(open_video(path).frames()))
            start = int(rng.integers(0, FRAMES - trainer.backbone.settings.window + 1))
            part = slice(start, start + trainer.backbone.settings.window)
            latents = vae.encode_frames(frames)[part] if whole else vae.encode_frames(frames[part])
            speech = speech_features(open_sound(path).in_step(), FRAMES)[part]
            reference = vae.encode_frames(frames[:1])[0]
            *_, motion, mouth, eyes, cepstra = window(clip, start, trainer.backbone.settings.window)
            seen = (torch.from_numpy(each) for each in (latents, speech, reference))
            windows.append((*seen, motion, mouth, eyes, cepstra))
            if len(windows) == settings.federation.batch_size:
                yield collate(windows)
                windows = []

    with pefts_products(adapter.model):
        _descend(trainer, parameters, optimizer, itertools.islice(batches(), steps), generator, adapter)
    return copy.deepcopy(adapter.model.state_dict())


def _descend(
    trainer: ClientTrainer,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batches: Iterator,
    generator: torch.Generator,
    adapter: Adapter | None = None,
) -> None:
    backbone = (adapter or trainer.adapter).backbone
    for batch in batches:
        draw = Draw.sample(batch.latents, trainer.settings.objective, generator)
        loss = local_objective(backbone, batch, draw, trainer.settings.objective).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
