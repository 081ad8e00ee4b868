"""Speed of training steps on an idle machine and beside one busy process, by two threads and by one-thread processes:

    python -m benchmarks.busy

Steps are the demo's own, of the autoencoder, the opening ruler and the backbone, at its sizes on random pictures.
"Two threads" computes a batch whole with two threads for each operation, as torch does by itself; "processes" is how
training computes (`training.model.halves`). The variants take turns, `--repeat` times; medians count. The busy process
multiplies matrices on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.federation_run import batch_of, make_run
from benchmarks.machine import products
from training.execution import open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.methods import configure
from training.learning import pretraining
from training.model.autoencoders import small
from training.model.frozen import rulers
from training.model.halves import Gradients, open_gradients, picked
from training.model.objective import Draw, feature_weight
from training.settings import TrainingSettings, VaeSettings

SECONDS = 6.0
"""How long each variant runs in a turn."""
Step = Callable[[Gradients], object]


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Run the body beside one other process that computes all the time, or, unless `wanted`, alone."""
    if not wanted:
        yield
        return
    process = get_context("spawn").Process(target=products, args=(float("inf"),), daemon=True)
    process.start()
    time.sleep(1.0)
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def two_threads(model: nn.Module, loss: Callable[..., Tensor]) -> Iterator[Gradients]:
    """Gradients of the whole batch in this process, each operation on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield Gradients(model, loss, whole=True, other=None)
    finally:
        torch.set_num_threads(before)


def autoencoder() -> tuple[nn.Module, Callable[..., Tensor], Step]:
    rng, settings = np.random.default_rng(0), VaeSettings()
    frames = rng.integers(0, 256, (64, 128, 128, 3), dtype=np.uint8)
    features = rng.random((64, 16, 16)) < 0.2
    index = rng.integers(0, len(frames), settings.batch_size)
    model = small.SmallVae(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    part = picked(index, (0, 0), frames=frames, features=features)
    return model, partial(small._loss, settings), lambda gradients: gradients(len(index), part)


def ruler() -> tuple[nn.Module, Callable[..., Tensor], Step]:
    rng, settings = np.random.default_rng(0), rulers.OpeningRulerSettings()
    frames = rng.integers(0, 256, (64, 128, 128, 3), dtype=np.uint8)
    labels, index = rng.random(64).astype(np.float32), rng.integers(0, len(frames), settings.batch)
    loss = partial(rulers._autocast_loss, partial(rulers._opening_loss, settings))
    part = picked(index, (0, 0), frames=frames, labels=labels)
    return rulers.OpeningRuler(), loss, lambda gradients: gradients(len(index), part)


def backbone(scratch: Path) -> tuple[nn.Module, Callable[..., Tensor], Step]:
    run, settings = make_run(scratch / "run", 1), configure("fedavg", TrainingSettings())
    trainer = open_trainer(ClientStorage(run, "fedavg"), settings, 0)
    model = trainer.adapter.model.unload().requires_grad_(True).train()
    count = settings.pretraining.batch_size
    batch = batch_of(run, settings, count)
    draw = Draw.sample(batch.latents, settings.objective, torch.Generator().manual_seed(0))
    part = partial(pretraining._part, batch, draw, feature_weight(batch, settings.objective))
    loss = partial(pretraining._losses, settings.objective, torch.device("cpu"))
    return model, loss, lambda gradients: gradients(count, part)


def rate(step: Callable[[], object]) -> float:
    """Steps a second over SECONDS."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        step()
        count += 1
    return count / (time.perf_counter() - began)


def measure(name: str, model: nn.Module, loss: Callable[..., Tensor], step: Step, repeat: int) -> None:
    """Print a row for each variant: median steps a second, idle and beside the busy process."""
    variants = {
        "two threads": partial(two_threads, model, loss),
        "one process": partial(open_gradients, model, loss, 1),
        "two processes": partial(open_gradients, model, loss, 2),
    }
    rates: dict[tuple[str, bool], list[float]] = defaultdict(list)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    for turn in range(repeat + 1):
        for variant, opened in variants.items():
            with opened() as gradients:
                whole = partial(_whole_step, step, gradients, model, optimizer)
                whole()  # starts the other process
                for beside in (False, True):
                    with busy(beside):
                        found = rate(whole)
                    if turn:  # the first turn compiles kernels
                        rates[variant, beside].append(found)
    middle = {key: statistics.median(found) for key, found in rates.items()}
    usual = middle["two threads", False]
    for variant in variants:
        idle, slowed = middle[variant, False], middle[variant, True]
        print(
            f"| {name} | {variant} | {idle:.2f} | {idle / usual:.2f} | {slowed:.2f} | {idle / slowed:.1f} |", flush=True
        )


def _whole_step(step: Step, gradients: Gradients, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    step(gradients)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    print("| step | by | idle, steps/s | to two threads | beside a busy process, steps/s | idle ÷ busy |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        measure("autoencoder", *autoencoder(), repeat)
        measure("opening ruler", *ruler(), repeat)
        measure("backbone", *backbone(Path(scratch)), repeat)


if __name__ == "__main__":
    main()
