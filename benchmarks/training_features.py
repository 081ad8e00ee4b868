"""The cost or gain of each feature of the training on a CPU, at the demo's sizes; ratios within one run:

    python -m benchmarks.training_features

Steps of one client's federation and of the backbone's pretraining on random latents, one thread, as a worker has it.
Variants take turns, `--repeat` times, and the fastest turn counts, since other work on the machine only adds time. For
their effect on quality see `benchmarks/samplers.py`; for a GPU, for which most are made, `benchmarks/gpu`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then

import numpy as np
import torch

from benchmarks.cpu import Work, pretraining_step, seconds
from benchmarks.federation_run import SIZE, batch_of, make_run
from common.folders import RunFolder
from training.execution import open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.methods import configure
from training.federation.methods.base import LocalRule
from training.model.autoencoders.sources import load_autoencoder
from training.model.backbones.kinds import load_backbone
from training.model.device import has_fast_bfloat16
from training.model.objective import Draw
from training.settings import TrainingSettings

STEPS = 6
HEAD = "| a step of | with | ms | × as it comes |\n|---|---|---|---|"


def local_steps(run: RunFolder) -> dict[str, Work]:
    """A client's steps under other settings, and with the autoencoder in the loop, which cached latents save."""
    usual = configure("fedavg", TrainingSettings())
    batch = batch_of(run, usual, usual.federation.batch_size)
    vae = load_autoencoder(run.model("vae"))
    windows, frames = batch.latents.shape[:2]
    pictures = np.random.default_rng(0).integers(0, 256, (windows * (frames + 1), SIZE, SIZE, 3), dtype=np.uint8)

    def steps(settings: TrainingSettings, encodes: bool = False) -> Work:
        trainer = open_trainer(ClientStorage(run, "fedavg"), settings, 0)
        rule = LocalRule(settings, {}, {})
        optimizer = rule.begin(trainer.adapter.parameters)

        def work() -> None:
            generator = torch.Generator().manual_seed(0)
            for _ in range(STEPS):
                if encodes:
                    vae.encode_frames(pictures)
                trainer.step(batch, Draw.sample(batch.latents, settings.objective, generator), rule, optimizer)

        return work

    def changed(part: str, **values: object) -> TrainingSettings:
        return usual.model_copy(update={part: getattr(usual, part).model_copy(update=values)})

    return {
        "as it comes": steps(usual),
        "the autoencoder in the loop, no cached latents": steps(usual, encodes=True),
        "accumulation, 2 windows at a time": steps(changed("federation", micro_batch=2)),
        "accumulation, 1 window at a time": steps(changed("federation", micro_batch=1)),
        "gradient checkpointing": steps(changed("compute", gradient_checkpointing=True)),
        "frozen weights bf16": steps(changed("compute", frozen_bfloat16=True)),
        "channels last": steps(changed("compute", channels_last=True)),
        "compiled": steps(changed("compute", compile=True)),
    }


def pretraining_steps(run: RunFolder) -> dict[str, Work]:
    """Steps that train all weights, each variant without one feature."""
    settings = TrainingSettings()
    batch = batch_of(run, configure("fedavg", settings), settings.pretraining.batch_size)

    def steps(fused: bool = True, averaged: bool = True) -> Work:
        backbone = load_backbone(run.model("backbone")).requires_grad_(True).train()
        optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-4, fused=fused)
        average = {name: value.detach().clone() for name, value in backbone.state_dict().items()}

        def work() -> None:
            generator = torch.Generator().manual_seed(0)
            for _ in range(STEPS):
                pretraining_step(backbone, batch, optimizer, settings, generator)
                if averaged:
                    for name, value in backbone.state_dict().items():
                        average[name].lerp_(value, 1 - settings.pretraining.ema)

        return work

    return {
        "as it comes": steps(),
        "no moving average of the weights (EMA)": steps(averaged=False),
        "AdamW that is not fused": steps(fused=False),
    }


def compare(name: str, variants: Mapping[str, Work], repeat: int) -> None:
    took: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeat + 1):
        for variant, work in variants.items():
            elapsed = seconds(work)
            if turn:  # the first turn compiles kernels
                took[variant].append(elapsed / STEPS)
    usual = min(took["as it comes"])
    for variant, times in took.items():
        print(f"| {name} | {variant} | {1e3 * min(times):.0f} | {min(times) / usual:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    half = "bfloat16 autocast" if has_fast_bfloat16(torch.device("cpu")) else "float32"
    print(f"torch {torch.__version__}, {half}, one thread\n\n{HEAD}")
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", 1)
        compare("a client's local training", local_steps(run), arguments.repeat)
        compare("pretraining the backbone", pretraining_steps(run), arguments.repeat)


if __name__ == "__main__":
    main()
