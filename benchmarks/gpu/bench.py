"""What the sections of `benchmarks/gpu` share: a clock, device memory, and the file of figures."""

from __future__ import annotations

import contextlib
import json
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.gpu.subjects import Sizes
from training.execution.memory import GB


@dataclass
class Bench:
    """What the sections share: the device, the sizes, and the figures so far."""

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
        """Add a figure and write the file at once, so that ending the program loses nothing."""
        self.results.setdefault(section, []).append(row)
        print(f"  {section}: {json.dumps(row)[:300]}", flush=True)
        if self.out is not None:
            partial_file = self.out.with_suffix(".part")
            partial_file.write_text(json.dumps(self.results, indent=1) + "\n")
            partial_file.replace(self.out)

    def try_each(self, section: str, variants: list[dict[str, Any]], measure: Callable[..., dict[str, Any]]) -> None:
        """Measure each variant; if one fails, or no time is left for it, its row has the error."""
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


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the body after so many seconds, as soon as Python code runs: this also stops a compiler or
    a federation that does not end."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError("no time left in this section")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def only_attention(backend: str) -> Iterator[None]:
    """Allow only the named kernel of scaled dot-product attention; all of them if `backend` is empty."""
    if not backend:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([getattr(SDPBackend, backend)]):
        yield


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Compute steps without autocast, for comparison."""
    from unittest import mock

    from training.model import objective

    with mock.patch.object(objective, "autocast", lambda device: contextlib.nullcontext()):
        yield
