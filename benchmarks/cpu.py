"""The time of the demo's training steps on a CPU, and what each way of computing them gains; ratios within one run:

    python -m benchmarks.cpu

Steps are the demo's own (`training.vae`, `training.pretraining`, a client's local steps) at its sizes, on random
frames and latents, whole batches on one thread (processes against threads: `benchmarks.busy`). Variants of one subject
take turns, `--repeat` times; medians count. Each past optimisation is undone again for comparison, one by one and all
together. The profile shows the operators of a step of the backbone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.federation_run import bare_steps, batch_of, make_run, pefts_products
from benchmarks.machine import scaling
from training.execution import open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.methods import configure
from training.model.autoencoders.small import train_vae
from training.model.backbones.interface import Backbone
from training.model.data import Batch
from training.model.device import has_fast_bfloat16, one_thread
from training.model.objective import Draw, local_objective
from training.settings import TrainingSettings, VaeSettings

VAE_STEPS, BACKBONE_STEPS, LOCAL_STEPS = 12, 6, 6
Work = Callable[[], object]


@contextmanager
def computed(bfloat16: bool) -> Iterator[None]:
    """Compute on one thread, with or without bfloat16 autocast, whatever the settings would choose here."""
    with one_thread(), mock.patch("training.model.device.has_fast_bfloat16", lambda device: bfloat16):
        yield


def vae_steps() -> Work:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (64, 128, 128, 3), dtype=np.uint8)
    features = rng.random((64, 16, 16)) < 0.2
    settings = VaeSettings(steps=VAE_STEPS)
    return lambda: train_vae(frames, features, settings, 0)


def backbone_steps(scratch: Path) -> tuple[Work, Work, nn.Module]:
    """Steps of pretraining (all weights learn), a client's local steps (its adapter alone), and the adapted model."""
    run, settings = make_run(scratch / "run", 1), configure("fedavg", TrainingSettings())
    trainer = open_trainer(ClientStorage(run, "fedavg"), settings, 0)
    (client,) = [folder.name for folder in (run.root / "clients").iterdir()]
    whole = open_trainer(ClientStorage(run, "fedavg"), settings, 0).adapter.model.unload()
    whole.requires_grad_(True).train()
    batch = batch_of(run, settings, settings.pretraining.batch_size)
    optimizer = torch.optim.AdamW(whole.parameters(), lr=1e-4, fused=True)

    def pretraining() -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(BACKBONE_STEPS):
            pretraining_step(whole, batch, optimizer, settings, generator)

    return pretraining, lambda: bare_steps(trainer, client, LOCAL_STEPS), trainer.adapter.model


def pretraining_step(
    model: Backbone,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> None:
    """One step of the backbone's pretraining."""
    draw = Draw.sample(batch.latents, settings.objective, generator)
    optimizer.zero_grad(set_to_none=True)
    local_objective(model, batch, draw, settings.objective).total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(name: str, work: Work, steps: int, repeat: int, chosen: bool) -> None:
    """Print a step's milliseconds in both precisions, and the speed relative to the settings' choice."""
    took: dict[bool, list[float]] = defaultdict(list)
    for turn in range(repeat + 1):
        for half in (False, True):
            with computed(half):
                elapsed = seconds(work)
            if turn:  # the first turn compiles kernels
                took[half].append(elapsed / steps)
    usual = statistics.median(took[chosen])
    for half, times in took.items():
        mark = ", as it comes" if half == chosen else ""
        middle = statistics.median(times)
        precision = "bfloat16 autocast" if half else "float32"
        print(f"| {name} | {precision}{mark} | {1e3 * middle:.0f} | {usual / middle:.2f} |", flush=True)


def reductions(name: str, work: Work, model: nn.Module, steps: int, repeat: int, chosen: bool) -> None:
    """Print a step's time with each optimisation undone, on one thread as a client's worker has."""
    tanh = partial(nn.functional.gelu, approximate="tanh")
    undone: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "LoRA by PEFT's products, scaling and sum": lambda: pefts_products(model),
        "GELU by its tanh approximation": lambda: mock.patch("torch.nn.functional.gelu", tanh),
        "activations rounded for each product anew": lambda: mock.patch(
            "training.model.backbones.tiny.narrowed", lambda x: x
        ),
    }
    variants = {"as it comes": [], **{what: [what] for what in undone}, "all three": list(undone)}
    took: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeat + 1):
        for variant, some in variants.items():
            with computed(chosen), ExitStack() as stack:
                for what in some:
                    stack.enter_context(undone[what]())
                elapsed = seconds(work)
            if turn:
                took[variant].append(elapsed / steps)
    usual = statistics.median(took["as it comes"])
    for variant, times in took.items():
        middle = statistics.median(times)
        print(f"| {name} | {variant} | {1e3 * middle:.0f} | {middle / usual:.2f} |", flush=True)


def operators(work: Work, half: bool, most: int = 10) -> None:
    """Print the operators of one call, costliest first."""
    with computed(half), profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    rows = [(row.key, row.self_cpu_time_total, row.count) for row in found.key_averages()]
    whole = sum(elapsed for _, elapsed, _ in rows)
    for key, elapsed, count in sorted(rows, key=lambda row: -row[1])[:most]:
        print(f"| `{key}` | {elapsed / 1e3 / BACKBONE_STEPS:.1f} | {count // BACKBONE_STEPS} | {elapsed / whole:.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    chosen = has_fast_bfloat16(torch.device("cpu"))
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; ", end="")
    print(f"two processes of arithmetic do {scaling():.2f} × the work of one.\n")
    with tempfile.TemporaryDirectory() as folder:
        pretraining, local, adapted = backbone_steps(Path(folder))
        print("| a step of | computed in | ms, one thread | × as fast as it comes |\n|---|---|---|---|")
        compare("pretraining the backbone", pretraining, BACKBONE_STEPS, arguments.repeat, chosen)
        compare("a client's local training", local, LOCAL_STEPS, arguments.repeat, chosen)
        compare("the small autoencoder", vae_steps(), VAE_STEPS, arguments.repeat, chosen)
        print("\n| a step of | undone | ms, one thread | × as it comes |\n|---|---|---|---|")
        reductions("a client's local training", local, adapted, LOCAL_STEPS, arguments.repeat, chosen)
        reductions("a client's local training, float32", local, adapted, LOCAL_STEPS, arguments.repeat, False)
        for half in (False, True):
            print(f"\nOperators of a step of pretraining, one thread, {'bfloat16 autocast' if half else 'float32'}:\n")
            print("| operator | ms | calls | share |\n|---|---|---|---|")
            operators(pretraining, half)


if __name__ == "__main__":
    main()
