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
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.gpu_bench import Bench
from benchmarks.gpu_showing import generation, metrics, vae
from benchmarks.gpu_subjects import TINY, Sizes
from benchmarks.gpu_training import ceiling, federation, memory, profile, resolutions, steps
from training.execution.memory import GB

BUDGET_SECONDS = {
    "ceiling": 15,
    "steps_sd15": 75,
    "steps_base": 100,
    "profile": 60,
    "memory": 60,
    "generation": 50,
    "resolutions": 25,
    "vae": 25,
    "metrics": 20,
    "federation": 150,
    "federation_sd15": 150,
}

SECTIONS: dict[str, Callable[[Bench], None]] = {
    "ceiling": ceiling,
    "steps_sd15": partial(steps, "sd15"),
    "profile": profile,
    "generation": generation,
    "federation": partial(federation, "base"),
    "steps_base": partial(steps, "base"),
    "memory": memory,
    "resolutions": resolutions,
    "vae": vae,
    "metrics": metrics,
    "federation_sd15": partial(federation, "sd15"),
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
