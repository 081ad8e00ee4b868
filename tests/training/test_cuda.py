"""A federation on a GPU: finite, the same bits with one worker and with two, resumable, within its memory budget.

    python -m pytest tests/training/test_cuda.py

Needs nothing but the two lower floors: models are small and random, clips are drawn, all in a temporary folder.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from common.folders import RunFolder
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, TrainerFor, sample_for, settings_with
from tests.training.small_models import SHAPE, make_clip
from training.execution import Job, LocalPool, PooledEngine, open_pool, open_trainer
from training.execution.memory import GB, plan_memory, step_bytes, waiting_bytes, within_budget
from training.execution.pools import worker_devices
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement
from training.federation.methods import configure
from training.federation.methods.base import LocalRule
from training.model.autoencoders.small import SmallVae
from training.model.backbones.tiny import TinyBackbone
from training.model.data import stream_batches
from training.model.device import autocast, has_fast_bfloat16
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.model.objective import Draw
from training.settings import (
    BackboneSettings,
    DecodedSettings,
    ExecutionSettings,
    FederationSettings,
    IdentityTermSettings,
    SyncTermSettings,
    TrainingSettings,
    VaeSettings,
)

GPU = "cuda:0"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, LocalPool]]:
    """Workers by their number, all on the same GPU; each is started once for all tests."""
    with LocalPool([GPU]) as one, LocalPool([GPU, GPU]) as two:
        yield {1: one, 2: two}


def with_federation(settings: TrainingSettings, **values: object) -> TrainingSettings:
    return settings.model_copy(update={"federation": settings.federation.model_copy(update=values)})


def federated(
    storage: ClientStorage, settings: TrainingSettings, pool: LocalPool, folder: Path, rounds: int = 3
) -> FederationResult:
    """All rounds on the pool's workers, or those that are left in `folder`."""
    settings = with_federation(settings, rounds=rounds)
    leader = open_trainer(storage, settings, 5, pool.device)
    start = Start(leader.adapter.vector(), leader.adapter.base_sha256, leader.adapter.factors)
    engine = PooledEngine(pool, Job(storage, settings, 5))
    return run_federation(engine, storage.method, start, CLIENTS, lambda theta: 0.0, settings, folder, 5)


@pytest.mark.parametrize("method", ["privfedtalk", "scaffold"])
def test_one_and_two_workers_learn_the_same_and_a_stopped_run_goes_on(
    trainer_for: TrainerFor, pools: dict[int, LocalPool], tmp_path: Path, method: str
) -> None:
    settings = settings_with(method)
    storage = trainer_for(settings, method).storage
    one = federated(storage, settings, pools[1], tmp_path / "one")
    two = federated(storage, settings, pools[2], tmp_path / "two")
    start = open_trainer(storage, settings, 5).adapter.vector()
    assert np.isfinite(one.theta).all()
    assert np.abs(one.theta - start).max() > 1e-4
    losses = [each for record in one.records for each in record.simulation["clients"].values()]
    assert all(np.isfinite(list(each.values())).all() for each in losses)
    np.testing.assert_array_equal(two.theta, one.theta)
    federated(storage, settings, pools[2], tmp_path / "cut", rounds=1)
    np.testing.assert_array_equal(federated(storage, settings, pools[1], tmp_path / "cut").theta, one.theta)


def test_a_worker_that_dies_on_the_gpu_is_replaced(trainer_for: TrainerFor, pools: dict[int, LocalPool]) -> None:
    trainer = trainer_for(settings_with("fedavg"), "fedavg")
    engine = PooledEngine(pools[2], Job(trainer.storage, trainer.settings, 5))
    announced = Announcement(1, trainer.adapter.vector())
    expected = engine.train(CLIENTS, announced)
    victim = pools[2]._workers[0].process.pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    updates = engine.train(CLIENTS, announced)
    assert not psutil.pid_exists(victim)
    for client in CLIENTS:
        np.testing.assert_array_equal(updates[client].delta, expected[client].delta)


def test_a_gpu_starts_where_a_cpu_does_and_sees_the_same_draws(trainer_for: TrainerFor) -> None:
    settings = settings_with("fedavg")
    here = trainer_for(settings, "fedavg")
    there = open_trainer(here.storage, settings, 5, GPU)
    theta = here.adapter.vector()
    assert str(there.device) == GPU
    assert there.adapter.base_sha256 == here.adapter.base_sha256
    np.testing.assert_array_equal(there.adapter.vector(), theta)
    on_cpu, on_gpu = here.train("c2", Announcement(1, theta)), there.train("c2", Announcement(1, theta))
    # bfloat16 rounds at 4e-3; other draws of noise and timesteps would change the loss by tens of percent.
    assert on_gpu.losses["total"] == pytest.approx(on_cpu.losses["total"], rel=0.02)
    assert on_gpu.score == pytest.approx(on_cpu.score, abs=0.05)


def test_steps_do_not_wait_for_the_gpu(trainer_for: TrainerFor) -> None:
    settings = settings_with("fedavg")
    trainer = open_trainer(trainer_for(settings, "fedavg").storage, settings, 5, GPU)
    rule, generator = LocalRule(settings, {}, {}), torch.Generator().manual_seed(0)
    optimizer = rule.begin(trainer.adapter.parameters)
    batches = stream_batches(
        iter(trainer._clips("c2", "train")), 2, trainer.backbone.settings.window, np.random.default_rng(0)
    )

    def step() -> None:
        batch = next(batches)
        draw = Draw.sample(batch.latents, settings.objective, generator)
        trainer.step(batch.to(trainer.device), draw.to(trainer.device), rule, optimizer)

    step()  # tables of the schedule and the optimiser's state are made
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_terms_on_decoded_frames_run_where_the_backbone_is(trainer_for: TrainerFor) -> None:
    settings = settings_with("fedavg")
    objective = settings.objective.model_copy(
        update={
            "identity": IdentityTermSettings(network="ruler"),
            "sync": SyncTermSettings(network="ruler"),
            "decoded": DecodedSettings(least_alpha_bar=0.0, frames=2),
        }
    )
    settings = settings.model_copy(update={"objective": objective})
    storage = trainer_for(settings, "fedavg").storage
    OpeningRuler(width=8).frozen().save(storage.run.model("rulers") / "opening")
    losses = []
    for device in ("cpu", GPU):
        trainer = open_trainer(storage, settings, 5, device)
        losses.append(trainer.train("c1", Announcement(1, trainer.adapter.vector())).losses)
    assert losses[1].keys() == losses[0].keys() > {"identity", "sync"}
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=0.05, abs=1e-3), name


def demo_sized(folder: Path) -> ClientStorage:
    """Models of the demo's sizes, with random weights, and one client."""
    shape = SHAPE.model_copy(update={"latent_channels": 8, "latent_size": 16})
    run = RunFolder(folder)
    settings = BackboneSettings()
    torch.manual_seed(0)
    TinyBackbone(settings, shape).save(run.model("backbone"))
    SmallVae(VaeSettings(latent_channels=8)).save(run.model("vae"))
    IdentityRuler(width=8, embedding=8).frozen().save(run.model("rulers") / "identity")
    samples = []
    for number, split in enumerate(["train", "train", "validation", "test"]):
        clip, small = make_clip(number, 16, shape), sample_for("c0", number, split)
        fields = {"latents": clip.latents, "speech": clip.speech, "reference_latent": clip.reference}
        arrays = {name: tensor.numpy().astype(np.float16) for name, tensor in fields.items()}
        points = np.concatenate([small.landmarks, small.landmarks[:4]]) * 2
        picture = np.repeat(np.repeat(small.reference, 2, 0), 2, 1)
        about = {"motion": clip.motion.numpy(), "landmarks": points, "reference": picture}
        samples.append(type(small)(**{**vars(small), **arrays, **about}))
    write_shards(run.client("c0"), samples)
    return ClientStorage(run, "fedavg")


def test_a_memory_budget_is_kept(tmp_path: Path) -> None:
    gc.collect()  # what other tests left on the GPU counts too
    storage = demo_sized(tmp_path / "run")
    settings = with_federation(configure("fedavg", TrainingSettings()), batch_size=16)
    trainer = open_trainer(storage, settings, 5, GPU)
    one, two = (step_bytes(trainer, windows) for windows in (1, 2))
    budget = 1.01 * (one + 3 * (two - one) + 12 * waiting_bytes(trainer)) / GB
    plan = plan_memory(trainer, settings, budget)
    assert plan.measured == "measured on the GPU"
    assert (plan.micro_batch, plan.parts) == (4, 4)
    chosen = within_budget(trainer, with_federation(settings, memory_budget_gb=budget), tmp_path / "kept")
    del trainer

    def peak_of(settings: TrainingSettings) -> float:
        gc.collect()
        torch.cuda.empty_cache()
        trainer = open_trainer(storage, settings, 5, GPU)
        torch.cuda.reset_peak_memory_stats(GPU)
        trainer.personalise("c0", trainer.adapter.vector(), 3)
        return torch.cuda.max_memory_allocated(GPU) / GB

    assert peak_of(chosen) <= budget
    assert peak_of(settings) > budget


def test_autocast_is_bfloat16_where_the_gpu_has_it() -> None:
    device = torch.device(GPU)
    native = torch.cuda.get_device_capability(device)[0] >= 8
    assert has_fast_bfloat16(device) is native
    with autocast(device):
        product = torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
    assert product.dtype == (torch.bfloat16 if native else torch.float32)


def test_workers_are_on_the_devices_that_are_named() -> None:
    there = [f"cuda:{number}" for number in range(torch.cuda.device_count())]

    def opened(*names: str) -> Sequence[str]:
        pool = open_pool(ExecutionSettings(devices=names), 4)
        assert isinstance(pool, LocalPool)
        return pool._devices

    assert opened() == tuple(there)
    assert opened(there[-1], "cpu", there[-1]) == (there[-1], "cpu", there[-1])
    assert worker_devices(there, 1) == there


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_learn_what_one_does(trainer_for: TrainerFor, pools: dict[int, LocalPool], tmp_path: Path) -> None:
    settings = settings_with("fedavg")
    storage = trainer_for(settings, "fedavg").storage
    with LocalPool(["cuda:0", "cuda:1"]) as pool:
        spread = federated(storage, settings, pool, tmp_path / "spread")
    np.testing.assert_array_equal(spread.theta, federated(storage, settings, pools[1], tmp_path / "one").theta)


def test_a_budgeted_federation_goes_the_same_way(
    trainer_for: TrainerFor, pools: dict[int, LocalPool], tmp_path: Path
) -> None:
    settings = with_federation(settings_with("fedavg"), batch_size=4)
    storage = trainer_for(settings, "fedavg").storage
    whole = federated(storage, settings, pools[1], tmp_path / "whole", rounds=2)
    parts = federated(storage, with_federation(settings, micro_batch=2), pools[2], tmp_path / "parts", rounds=2)
    start = open_trainer(storage, settings, 5).adapter.vector()
    moved = np.linalg.norm(whole.theta - start)
    assert np.linalg.norm(parts.theta - whole.theta) < 0.2 * moved
    assert FederationSettings().micro_batch is None
