"""How much two processes gain over one on this machine: the most that two workers can gain.

Two virtual cores are often the two threads of one physical core, which share its arithmetic units: no program then gets
twice the work done by two processes, whatever its design. Benchmarks that compare workers print this beside it.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

SIDE, SECONDS = 192, 2.0


def products(until: float) -> int:
    """Matrix products, small enough for a core's own cache, that one thread finishes between now and `until`."""
    left = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    right, count = left.copy(), 0
    while time.time() < until:
        np.matmul(left, right)
        count += 1
    return count


def scaling(processes: int = 2, turns: int = 3) -> float:
    """Matrix products of `processes` processes over those of one in the same time; the median of `turns`."""
    found = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(products, [time.time() + 0.5] * processes))  # starts and warms all processes
        for _ in range(turns):
            alone = pool.submit(products, time.time() + SECONDS).result()
            together = sum(pool.map(products, [time.time() + SECONDS] * processes))
            found.append(together / alone)
    return statistics.median(found)


if __name__ == "__main__":
    print(f"Two processes do {scaling():.2f} × the work of one.")
