"""Sections of `benchmarks/gpu` about training: the ceiling, local steps, their profile and memory, rounds."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu.bench import Bench, only_attention, without_autocast
from benchmarks.gpu.subjects import Subject, bare_steps, build_subject, federated_run, settings_for, without
from training.execution import Job, LocalPool, PooledEngine
from training.execution.memory import GB, plan_memory, step_bytes
from training.execution.trainer import Bench as ModelBench
from training.federation.algorithm import Start, run_federation
from training.federation.client.storage import ClientStorage
from training.model.compute import speed_up
from training.settings import ComputeSettings


def ceiling(bench: Bench) -> None:
    """The two rates that nothing here can beat: bf16 matrix products and copies through device memory."""

    def product(size: int) -> dict[str, Any]:
        a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
        return {"tflops": 2 * size**3 / bench.seconds(lambda: a @ b) / 1e12}

    def copy(mega: int) -> dict[str, Any]:
        a = torch.randn(mega * 2**18, device=bench.device)
        b = torch.empty_like(a)
        return {"gb_per_second": 2 * a.nbytes / bench.seconds(lambda: b.copy_(a)) / 1e9}

    bench.try_each("ceiling", [{"size": size} for size in bench.sizes.products], product)
    bench.try_each("ceiling", [{"mega": mega} for mega in bench.sizes.copies], copy)


def peak_tflops(bench: Bench) -> float | None:
    return max((row["tflops"] for row in bench.results.get("ceiling", []) if "tflops" in row), default=None)


def steps(kind: str, bench: Bench) -> None:
    """Local steps of `ClientTrainer` in several ways: clips a second, TFLOP/s, share of the ceiling, memory.

    FLOPs are those of the forward and backward pass, counted operator by operator without checkpointing.
    """
    subject = build_subject(kind, bench.sizes, bench.device)
    flops = subject.flops_a_window()
    bench.note(
        f"steps_{kind}",
        {"parameters": subject.parameters, "adapter": len(subject.adapter), "window_tflop": flops / 1e12},
    )

    def measure(
        batch: int,
        attention: str = "",
        fused: bool = True,
        float32: bool = False,
        targets: str = "attention",
        undone: str = "",
        **compute: Any,
    ) -> dict[str, Any]:
        own = subject if targets == "attention" else build_subject(kind, bench.sizes, bench.device, targets)
        speed_up(own.backbone, ComputeSettings(**compute))
        step = own.stepper(batch, fused)
        plain = without_autocast() if float32 else contextlib.nullcontext()
        with only_attention(attention), plain, without(undone, own.adapter.model):
            peak = bench.peak_gb(step)
            seconds = bench.seconds(step, 1.0 if bench.cuda else 0.1)
        total = (flops if own is subject else own.flops_a_window()) * batch / seconds / 1e12
        ceiling_tflops = peak_tflops(bench)
        return {
            "ms": 1e3 * seconds,
            "clips_per_second": batch / seconds,
            "tflops": total,
            "share_of_ceiling": total / ceiling_tflops if ceiling_tflops else None,
            "peak_gb": peak,
        }

    small, middle, large = bench.sizes.batches(kind)
    fast = {"channels_last": True, "frozen_bfloat16": True}
    # Halved weights and compiled blocks stay so: these variants come after those that need them otherwise.
    variants: list[dict[str, Any]] = [
        {"batch": middle},
        {"batch": small, "float32": True},
        {"batch": middle, "channels_last": True},
        {"batch": middle, "frozen_bfloat16": True},
        {"batch": middle, **fast},
        {"batch": middle, **fast, "undone": "one product"},
        *([{"batch": middle, **fast, "undone": "frame attention"}] if kind == "sd15" else []),
        {"batch": middle, **fast, "gradient_checkpointing": True},
        {"batch": middle, **fast, "fused": False},
        {"batch": middle, **fast, "attention": "EFFICIENT_ATTENTION"},
        {"batch": middle, **fast, "attention": "CUDNN_ATTENTION"},
        {"batch": small, **fast},
        {"batch": large, **fast},
        {"batch": large + 2, **fast},
        {"batch": middle, **fast, "targets": "all"},
        {"batch": middle, **fast, "compile": True},
        {"batch": large, **fast, "compile": True},
    ]
    bench.try_each(f"steps_{kind}", variants, measure)


def resolutions(bench: Bench) -> None:
    """A local step at other sizes of picture, in the layout and precision that suit a GPU."""

    def measure(kind: str, latent: int, batch: int, **compute: bool) -> dict[str, Any]:
        subject = build_subject(kind, dataclasses.replace(bench.sizes, latent=latent), bench.device)
        flops = subject.flops_a_window()
        speed_up(subject.backbone, ComputeSettings(**compute))
        step = subject.stepper(batch)
        peak = bench.peak_gb(step)
        seconds = bench.seconds(step)
        return {
            "ms": 1e3 * seconds,
            "clips_per_second": batch / seconds,
            "tflops": flops * batch / seconds / 1e12,
            "peak_gb": peak,
        }

    variants: list[dict[str, Any]] = [
        {"kind": kind, "latent": 2 * bench.sizes.latent, "batch": batch, "channels_last": True, "frozen_bfloat16": True}
        for kind, batch in (("sd15", 1), ("base", 2))
    ]
    bench.try_each("resolutions", variants, measure)


def profile(bench: Bench) -> None:
    """Where the time of an sd15 step goes: what holds the GPU longest, by operator and by kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    subject = build_subject("sd15", bench.sizes, bench.device)
    for compiled in (False, True):
        compute = {"channels_last": True, "frozen_bfloat16": True, **({"compile": True} if compiled else {})}
        speed_up(subject.backbone, ComputeSettings(**compute))
        step = subject.stepper(bench.sizes.batches("sd15")[1])
        for _ in range(2):
            step()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.cuda else [])]
        with profiled(activities=activities) as recorded:
            step()
            if bench.cuda:
                torch.cuda.synchronize()
        kernels: dict[str, list[float]] = {}
        operators: dict[str, list[float]] = {}
        for event in recorded.key_averages():
            on_device = event.self_device_time_total if bench.cuda else event.self_cpu_time_total
            if on_device <= 0:
                continue
            is_kernel = bench.cuda and event.device_type != DeviceType.CPU
            held = (kernels if is_kernel else operators).setdefault(event.key[:90], [0.0, 0])
            held[0] += on_device / 1e3
            held[1] += event.count
        for what, table in (("operator", operators), ("kernel", kernels)):
            total = sum(ms for ms, _ in table.values())
            for name, (ms, count) in sorted(table.items(), key=lambda item: -item[1][0])[:40]:
                row = {"of": what, **compute, "name": name, "ms": ms, "calls": count, "share": ms / total}
                bench.note("profile", row)
            bench.note("profile", {"of": what, **compute, "name": "all", "ms": total})


def memory(bench: Bench) -> None:
    """A step's peak memory, checkpointed or not, and whether the memory-budget mode keeps its budget."""
    for kind in ("base", "sd15"):
        subject = build_subject(kind, bench.sizes, bench.device)

        def needs(windows: int, checkpointing: bool, kind: str = kind, subject: Subject = subject) -> dict[str, Any]:
            speed_up(subject.backbone, ComputeSettings(gradient_checkpointing=checkpointing))
            return {"peak_gb": step_bytes(subject.trainer, windows) / GB}

        several = [
            {"windows": windows, "checkpointing": checkpointing}
            for checkpointing in (False, True)
            for windows in bench.sizes.batches(kind)[:2]
        ]
        bench.try_each(f"memory_{kind}", several, needs)
        speed_up(subject.backbone, ComputeSettings())

        def kept(parts: float, kind: str = kind, subject: Subject = subject) -> dict[str, Any]:
            trainer = subject.trainer
            small, large = (step_bytes(trainer, windows) for windows in (2, 4))
            window = (large - small) / 2
            batch = bench.sizes.batches(kind)[2]
            budget = (large - 4 * window + window * (batch / parts)) / GB
            settings = settings_for(bench.sizes, batch_size=batch)
            plan = plan_memory(trainer, settings, budget)
            federation = settings.federation.model_copy(update={"micro_batch": plan.micro_batch})
            trainer.settings = settings.model_copy(update={"federation": federation})
            peak = bench.peak_gb(subject.stepper(batch))
            within = None if peak is None else peak <= budget
            return {"budget_gb": budget, "micro_batch": plan.micro_batch, "peak_gb": peak, "within": within}

        bench.try_each(f"budget_{kind}", [{"parts": parts} for parts in (1.5, 3.0)], kept)


def federation(kind: str, bench: Bench) -> None:
    """A round of FedAvg by the local engine beside the clients' bare steps, on one and two workers of one device."""
    device = f"{bench.device.type}:0" if bench.cuda else "cpu"
    clients = [f"client{number}" for number in range(bench.sizes.clients if kind == "base" else 2)]
    few, some, _ = bench.sizes.batches(kind)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPool([device]) as one,
        LocalPool([device, device]) as two,
    ):
        run = federated_run(Path(folder) / "run", kind, bench.sizes, bench.device)
        bench.clear()
        storage, leader = ClientStorage(run, "fedavg"), ModelBench(torch.device(device))

        def rounds(kind: str, batch: int) -> dict[str, Any]:
            settings = settings_for(bench.sizes, batch_size=batch, rounds=3)
            compute = ComputeSettings(channels_last=True, frozen_bfloat16=True)
            job = Job(storage, settings.model_copy(update={"compute": compute}), 0)
            trainer, steps = leader.trainer(job), settings.federation.local_steps

            def plain() -> None:
                for client in clients:
                    bare_steps(trainer, client, steps)

            plain()
            row: dict[str, Any] = {"clients": len(clients), "local_steps": steps}
            row["bare_seconds"] = statistics.median(_timed(plain) for _ in range(2))
            row["score_seconds"] = statistics.median(
                _timed(lambda: [trainer.score(client, 1) for client in clients]) for _ in range(2)
            )
            bench.clear()
            start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256)
            row["bytes_up"] = start.theta.nbytes
            for workers, pool in ((1, one), (2, two)):
                first, *others = _round_seconds(PooledEngine(pool, job), start, clients, Path(folder) / "rounds")
                # The first round waits for the workers to load libraries, models and shards.
                row |= {f"first_round_{workers}": first, f"round_seconds_{workers}": statistics.median(others)}
            row["overhead"] = row["round_seconds_1"] / row["bare_seconds"]
            row["gain_of_two"] = row["round_seconds_1"] / row["round_seconds_2"]
            return row

        batches = (some, 1) if kind == "base" else (few,)  # two workers of sd15 share the memory
        bench.try_each("federation", [{"kind": kind, "batch": batch} for batch in batches], rounds)


def _round_seconds(engine: PooledEngine, start: Start, clients: list[str], folder: Path) -> list[float]:
    """Seconds of each round of a federation, from the announcement to its record."""
    shutil.rmtree(folder, ignore_errors=True)
    ends = [time.perf_counter()]
    run_federation(
        engine,
        "fedavg",
        start,
        clients,
        lambda theta: 0.0,
        engine.job.settings,
        folder,
        0,
        on_round=lambda record: ends.append(time.perf_counter()),
    )
    return [after - before for before, after in itertools.pairwise(ends)]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
