"""What one GPU does with this code, against what it can do: one script, under eight minutes, figures as JSON.

    python -m benchmarks.gpu --out gpu.json                     # everything
    python -m benchmarks.gpu --only ceiling steps_sd15 profile  # some of it
    python -m benchmarks.gpu --device cpu --tiny                # the same paths at toy sizes, to see that all runs

Weights and clips are random: no speed here depends on their values. A section that fails, or has no time left, leaves
its error in the file, and the others go on; the file is written anew after every figure. `benchmarks/gpu_table.py`
makes the tables of benchmarks/README.md and docs/scaling.md from it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.gpu_subjects import (
    TINY,
    Sizes,
    Subject,
    bare_steps,
    build_subject,
    clip_features,
    federated_run,
    inception,
    lpips_net,
    sd_vae,
    settings_for,
    taef2,
)
from training.compute import speed_up
from training.execution import Job, LocalPool, PooledEngine, open_trainer
from training.execution.memory import GB, plan_memory, step_bytes
from training.federation import Start, run_federation
from training.generation import Generator
from training.homes import Homes
from training.settings import ComputeSettings, GenerationSettings

BUDGET_SECONDS = {
    "ceiling": 15,
    "steps_sd15": 130,
    "steps_base": 50,
    "profile": 20,
    "memory": 30,
    "generation": 50,
    "vae": 25,
    "metrics": 20,
    "federation": 110,
}
REAL_TIME_FPS = 25


@dataclass
class Bench:
    """What the sections share: where they run, how large things are, and the figures so far."""

    device: torch.device
    sizes: Sizes
    out: Path | None
    results: dict[str, Any] = field(default_factory=dict)
    ends: float = 0.0

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def seconds(self, work: Callable[[], object], target: float = 1.0, least: int = 3) -> float:
        """Median seconds of one call, by device events on a GPU; the calls together take about `target` seconds."""
        work()
        once = self._once(work)
        count = max(least, min(50, int(target / max(once, 1e-4))))
        return statistics.median(self._once(work) for _ in range(count))

    def _once(self, work: Callable[[], object]) -> float:
        if not self.cuda:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000

    def peak_gb(self, work: Callable[[], object]) -> float | None:
        """The most device memory that tensors hold during a call, GB; None on a CPU."""
        if not self.cuda:
            work()
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / GB

    def note(self, section: str, row: dict[str, Any]) -> None:
        """Keep a figure, at once: whoever ends this program loses nothing."""
        self.results.setdefault(section, []).append(row)
        print(f"  {section}: {json.dumps(row)[:300]}", flush=True)
        if self.out is not None:
            partial_file = self.out.with_suffix(".part")
            partial_file.write_text(json.dumps(self.results, indent=1) + "\n")
            partial_file.replace(self.out)

    def try_each(self, section: str, variants: list[dict[str, Any]], measure: Callable[..., dict[str, Any]]) -> None:
        """Measure each variant; one that fails, or that there is no time for, says so in its row."""
        for variant in variants:
            if time.perf_counter() > self.ends:
                self.note(section, {**variant, "error": "no time left in this section"})
                continue
            began = time.perf_counter()
            try:
                row = measure(**variant)
            except Exception as error:
                row = {"error": f"{type(error).__name__}: {error}"[:500]}
            self.note(section, {**variant, **row, "took_seconds": round(time.perf_counter() - began, 1)})
            self.clear()

    def clear(self) -> None:
        if self.cuda:
            torch.cuda.empty_cache()


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
        with _attention(attention), _float32() if float32 else contextlib.nullcontext():
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
            (kernels if is_kernel else operators)[event.key[:90]] = [on_device / 1e3, event.count]
        for what, held in (("operator", operators), ("kernel", kernels)):
            total = sum(ms for ms, _ in held.values())
            for name, (ms, count) in sorted(held.items(), key=lambda item: -item[1][0])[:15]:
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


def generation(bench: Bench) -> None:
    """Frames a second from speech to pictures at the full size, and its parts; 25 is real time."""
    vae, sizes = sd_vae(bench.sizes).to(bench.device), bench.sizes
    vaes = {"sd-vae": vae, **({"taef2": t.to(bench.device)} if (t := taef2()) is not None else {})}
    for kind in ("sd15", "base"):
        subject = build_subject(kind, sizes, bench.device)

        def clip(steps: int, decoder: str = "sd-vae", subject: Subject = subject, **compute: Any) -> dict[str, Any]:
            speed_up(subject.backbone, ComputeSettings(**compute))
            latent_channels = vaes[decoder].latent_channels
            sampled = Generator(subject.backbone, vaes["sd-vae"], GenerationSettings(steps=steps), 0.5)
            reference, speech = clip_features(sizes, bench.device)
            drawn: list[torch.Tensor] = []

            def sample() -> None:
                drawn[:] = [sampled.latents(reference, speech, 0)]

            took = bench.seconds(sample, 1.0)
            latents = drawn[0][:, :1].expand(-1, latent_channels, -1, -1) if latent_channels != 4 else drawn[0]
            decoding = bench.seconds(lambda: vaes[decoder].decode_latents(latents), 0.5)
            fps = sizes.frames / (took + decoding)
            return {
                "frames": sizes.frames,
                "sampling_fps": sizes.frames / took,
                "decoding_fps": sizes.frames / decoding,
                "fps": fps,
                "times_real_time": fps / REAL_TIME_FPS,
            }

        fast = {"channels_last": True, "frozen_bfloat16": True}
        variants: list[dict[str, Any]] = [{"steps": 4}, *({"steps": steps, **fast} for steps in (4, 8, 50))]
        variants += [{"steps": 4, "decoder": name, **fast} for name in vaes if name != "sd-vae"]
        bench.try_each(f"generation_{kind}", variants, clip)


def vae(bench: Bench) -> None:
    """Frames a second through the autoencoder, from and to pictures in host memory."""
    autoencoder = sd_vae(bench.sizes).to(bench.device)
    pictures = torch.randint(0, 256, (bench.sizes.frames // 2, bench.sizes.pixels, bench.sizes.pixels, 3))
    frames = pictures.to(torch.uint8).numpy()

    def coded(pixels_a_batch: int, channels_last: bool = False) -> dict[str, Any]:
        autoencoder.pixels_a_batch = pixels_a_batch
        autoencoder.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        latents = torch.from_numpy(autoencoder.encode_frames(frames))
        there = bench.seconds(lambda: autoencoder.encode_frames(frames), 0.5)
        peak = bench.peak_gb(lambda: autoencoder.encode_frames(frames))
        back = bench.seconds(lambda: autoencoder.decode_latents(latents), 0.5)
        return {"encode_fps": len(frames) / there, "decode_fps": len(frames) / back, "encode_peak_gb": peak}

    variants: list[dict[str, Any]] = [{"pixels_a_batch": 2**power} for power in (18, 20, 22)]
    bench.try_each("vae", [*variants, {"pixels_a_batch": 2**22, "channels_last": True}], coded)


def metrics(bench: Bench) -> None:
    """Frames a second through the networks of the distribution metrics."""
    count = bench.sizes.frames // 2
    pictures = torch.randint(0, 256, (count, 3, bench.sizes.pixels, bench.sizes.pixels), dtype=torch.uint8)

    @torch.inference_mode()
    def run(network: str) -> dict[str, Any]:
        if network == "inception":
            model = inception().to(bench.device)
            seconds = bench.seconds(lambda: model(pictures.to(bench.device))[0].cpu(), 0.5)
        else:
            model = lpips_net(network.removeprefix("lpips_")).to(bench.device)

            def distances() -> None:
                there = pictures.to(bench.device).float() / 127.5 - 1
                model(there, there.flip(0)).cpu()

            seconds = bench.seconds(distances, 0.5)
        return {"fps": count / seconds}

    bench.try_each("metrics", [{"network": name} for name in ("inception", "lpips_alex", "lpips_vgg")], run)


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


@contextlib.contextmanager
def _attention(backend: str) -> Iterator[None]:
    """Only the named kernel of scaled dot-product attention; all of them where none is named."""
    if not backend:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([getattr(SDPBackend, backend)]):
        yield


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """Steps without autocast, for the comparison."""
    from unittest import mock

    from training import objective

    with mock.patch.object(objective, "autocast", lambda device: contextlib.nullcontext()):
        yield


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "ceiling": ceiling,
    "steps_sd15": partial(steps, "sd15"),
    "profile": profile,
    "generation": generation,
    "federation": federation,
    "steps_base": partial(steps, "base"),
    "memory": memory,
    "vae": vae,
    "metrics": metrics,
}


def machine(device: torch.device) -> dict[str, Any]:
    about = {"device": platform.processor() or platform.machine(), "torch": torch.__version__, "cores": os.cpu_count()}
    if device.type == "cuda":
        about["device"] = torch.cuda.get_device_name(device)
        about["memory_gb"] = torch.cuda.get_device_properties(device).total_memory / GB
    return about


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the file for the figures")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all sections together")
    arguments = parser.parse_args()
    bench = Bench(torch.device(arguments.device), TINY if arguments.tiny else Sizes(), arguments.out)
    if bench.cuda:
        torch.cuda.set_device(bench.device)
    began = time.perf_counter()
    bench.results["machine"] = machine(bench.device) | {"sizes": vars(bench.sizes)}
    for name, section in SECTIONS.items():
        if name not in arguments.only:
            continue
        started = time.perf_counter()
        bench.ends = min(started + BUDGET_SECONDS[name], began + 60 * arguments.minutes)
        print(f"{name} (at {started - began:.0f} s)", flush=True)
        try:
            section(bench)
        except Exception:
            bench.note(name, {"error": traceback.format_exc()[-1500:]})
        bench.clear()
        bench.note("seconds", {"section": name, "took_seconds": round(time.perf_counter() - started, 1)})
    print(summary(bench.results))
    return 0


def summary(results: dict[str, Any]) -> str:
    """The figures that matter, a line each; the file has the rest."""
    lines = [f"\n{results['machine']['device']}, torch {results['machine']['torch']}"]
    for section, rows in results.items():
        if section in ("machine", "profile"):
            continue
        for row in rows:
            short = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items() if k != "took_seconds"}
            lines.append(f"{section}: {str(short)[:170]}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
