"""Sections of `benchmarks/gpu.py` about training: the ceiling, local steps, their profile and memory, rounds."""

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

from benchmarks.gpu_bench import Bench, only_attention, without_autocast
from benchmarks.gpu_subjects import Subject, bare_steps, build_subject, federated_run, settings_for
from training.compute import speed_up
from training.execution import Job, LocalPool, PooledEngine, open_trainer
from training.execution.memory import GB, plan_memory, step_bytes
from training.federation import Start, run_federation
from training.homes import Homes
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
        batch: int, attention: str = "", fused: bool = True, float32: bool = False, **compute: Any
    ) -> dict[str, Any]:
        targets = compute.pop("targets", "attention")
        own = subject if targets == "attention" else build_subject(kind, bench.sizes, bench.device, targets)
        speed_up(own.backbone, ComputeSettings(**compute))
        step = own.stepper(batch, fused)
        with only_attention(attention), without_autocast() if float32 else contextlib.nullcontext():
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
    # What is halved stays so, and so does what is compiled: these come after those who want it otherwise.
    variants: list[dict[str, Any]] = [
        {"batch": middle},
        {"batch": small, "float32": True},
        {"batch": middle, "channels_last": True},
        {"batch": middle, "frozen_bfloat16": True},
        {"batch": middle, **fast},
        {"batch": middle, **fast, "gradient_checkpointing": True},
        {"batch": middle, **fast, "fused": False},
        {"batch": middle, **fast, "attention": "EFFICIENT_ATTENTION"},
        {"batch": middle, **fast, "attention": "CUDNN_ATTENTION"},
        {"batch": middle, **fast, "attention": "MATH"},
        {"batch": small, **fast},
        {"batch": large, **fast},
        {"batch": middle, **fast, "targets": "all"},
        {"batch": middle, **fast, "compile": True},
        {"batch": large, **fast, "compile": True},
        {"batch": large, **fast, "compile": True, "gradient_checkpointing": True},
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
    """Where the time of an sd15 step goes: the fifteen operators that hold the GPU longest, and groups of them."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    subject = build_subject("sd15", bench.sizes, bench.device)
    for compute in ({}, {"channels_last": True, "frozen_bfloat16": True}):
        speed_up(subject.backbone, ComputeSettings(**compute))
        step = subject.stepper(bench.sizes.batches("sd15")[1])
        step()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.cuda else [])]
        with profiled(activities=activities) as told:
            step()
            if bench.cuda:
                torch.cuda.synchronize()
        kernels: dict[str, list[float]] = {}
        operators: dict[str, list[float]] = {}
        for event in told.key_averages():
            on_device = event.self_device_time_total if bench.cuda else event.self_cpu_time_total
            if on_device <= 0:
                continue
            is_kernel = bench.cuda and event.device_type != torch.autograd.DeviceType.CPU
            held = (kernels if is_kernel else operators).setdefault(event.key[:90], [0.0, 0])
            held[0] += on_device / 1e3
            held[1] += event.count
        for what, table in (("operator", operators), ("kernel", kernels)):
            total = sum(ms for ms, _ in table.values())
            for name, (ms, count) in sorted(table.items(), key=lambda item: -item[1][0])[:15]:
                row = {"of": what, **compute, "name": name, "ms": ms, "calls": count, "share": ms / total}
                bench.note("profile", row)
            bench.note("profile", {"of": what, **compute, "name": "all", "ms": total})


def memory(bench: Bench) -> None:
    """What a step needs by kind, checkpointed or not, and the memory-budget mode held against its budget."""
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


def federation(bench: Bench) -> None:
    """A round of FedAvg through the local engine beside the clients' bare steps; one worker and two on one device."""
    device = f"{bench.device.type}:0" if bench.cuda else "cpu"

    def rounds(kind: str, batch: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            run = federated_run(Path(folder) / "run", kind, bench.sizes)
            settings = settings_for(bench.sizes, batch_size=batch)
            homes = Homes(run, "fedavg")
            trainer, job = open_trainer(homes, settings, 0, device), Job(homes, settings, 0)
            theta = trainer.adapter.vector()
            clients = [f"client{number}" for number in range(bench.sizes.clients)]

            def plain() -> None:
                for client in clients:
                    bare_steps(trainer, client, settings.federation.local_steps)

            plain()
            row: dict[str, Any] = {"clients": len(clients), "local_steps": settings.federation.local_steps}
            row["bare_seconds"] = statistics.median(_timed(plain) for _ in range(3))
            row["bytes_up"] = theta.nbytes
            for workers in (1, 2):
                with LocalPool([device] * workers) as pool:
                    engine = PooledEngine(pool, job)
                    ends: list[float] = []

                    def one_round(
                        engine: PooledEngine = engine, ends: list[float] = ends, workers: int = workers
                    ) -> None:
                        home = Path(folder) / f"rounds{workers}"
                        shutil.rmtree(home, ignore_errors=True)
                        three = settings.model_copy(
                            update={"federation": settings.federation.model_copy(update={"rounds": 4})}
                        )
                        start = Start(theta, trainer.adapter.base_sha256)
                        ends.append(time.perf_counter())
                        note = lambda record: ends.append(time.perf_counter())  # noqa: E731
                        run_federation(engine, "fedavg", start, clients, _no_loss, three, home, 0, on_round=note)

                    one_round()
                    took = [after - before for before, after in itertools.pairwise(ends)]
                    # The first round waits for the workers to load libraries, models and shards.
                    row[f"first_round_{workers}"], row[f"round_seconds_{workers}"] = (
                        took[0],
                        statistics.median(took[1:]),
                    )
            row["overhead"] = row["round_seconds_1"] / row["bare_seconds"]
            row["gain_of_two"] = row["round_seconds_1"] / row["round_seconds_2"]
            return row

    base, sd15 = bench.sizes.batches("base"), bench.sizes.batches("sd15")
    variants = [{"kind": "base", "batch": base[1]}, {"kind": "sd15", "batch": sd15[1]}, {"kind": "base", "batch": 1}]
    bench.try_each("federation", variants, rounds)


def _no_loss(theta: Any) -> float:
    return 0.0


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
