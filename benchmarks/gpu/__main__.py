"""Speed and memory of this code on one GPU, and the share of the GPU's own limits; under eight minutes, as JSON.

    python -m benchmarks.gpu --out gpu.json                     # everything
    python -m benchmarks.gpu --only ceiling steps_sd15 profile  # some of it
    python -m benchmarks.gpu --device cpu --tiny                # the same code at toy sizes, to see that it runs

Weights and clips are random: no speed here depends on their values. A section that fails, or has no time left, leaves
its error in the file, and the others go on; the file is written again after every figure. Time that a section does not
need goes to later ones; a section that would begin too late is listed under `left_out`.
`benchmarks/gpu/table.py` makes the tables of benchmarks/README.md and docs/scaling.md from it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.gpu.bench import Bench, time_limit
from benchmarks.gpu.showing import generation, metrics, vae
from benchmarks.gpu.subjects import TINY, Sizes
from benchmarks.gpu.training import ceiling, federation, memory, profile, resolutions, steps
from training.execution.memory import GB

START_SECONDS = 20
"""For loading torch and waking a GPU, before the first section's clock runs."""

BUDGET_SECONDS = {
    "ceiling": 5,
    "steps_sd15": 70,
    "profile": 30,
    "generation": 40,
    "federation": 110,
    "steps_base": 95,
    "memory": 20,
    "resolutions": 20,
    "vae": 20,
    "metrics": 5,
    "federation_sd15": 35,  # and what the others left; if they left nothing: `--only federation_sd15`
}
"""The time of each section if all before it used theirs up, from what an H100 needed; 470 s with the start."""

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
    about: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    if device.type == "cuda":
        about["device"] = torch.cuda.get_device_name(device)
        about["memory_gb"] = torch.cuda.get_device_properties(device).total_memory / GB
    return about


def must_end(name: str, chosen: Sequence[str], now: float, end: float) -> float | None:
    """The time at which a section that begins `now` must end, so that all of `chosen` end by `end`; None: too late.

    It has at least its own budget, and at most all time that the budgets of later sections leave.
    """
    own = now + BUDGET_SECONDS[name]
    after = [other for other in list(SECTIONS)[list(SECTIONS).index(name) + 1 :] if other in chosen]
    return max(own, end - sum(BUDGET_SECONDS[other] for other in after)) if own <= end else None


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the file for the figures")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    whole = (START_SECONDS + sum(BUDGET_SECONDS.values())) / 60
    parser.add_argument("--minutes", type=float, default=whole, help="for all sections together, and the start")
    arguments = parser.parse_args(given)
    bench = Bench(torch.device(arguments.device), TINY if arguments.tiny else Sizes(), arguments.out)
    if bench.cuda:
        torch.cuda.set_device(bench.device)
    began = time.perf_counter()
    end = began + 60 * arguments.minutes - START_SECONDS
    bench.results["machine"] = machine(bench.device) | {"sizes": vars(bench.sizes)}
    for name, section in SECTIONS.items():
        if name not in arguments.only:
            continue
        started = time.perf_counter()
        ends = must_end(name, arguments.only, started, end)
        if ends is None:
            left = {"seconds_left": round(end - started, 1), "needs_seconds": BUDGET_SECONDS[name]}
            bench.note("left_out", {"section": name, **left, "remedy": f"--only {name}"})
            continue
        bench.ends = ends
        print(f"{name} (at {started - began:.0f} s, until {ends - began:.0f} s)", flush=True)
        try:
            with time_limit(ends - started):
                section(bench)
        except Exception:
            bench.note(name, {"error": traceback.format_exc()[-1500:]})
        bench.clear()
        bench.note("seconds", {"section": name, "took_seconds": round(time.perf_counter() - started, 1)})
    print(summary(bench.results))
    return 0


def summary(results: dict[str, Any]) -> str:
    """The main figures, one line each; the file has the rest."""
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
