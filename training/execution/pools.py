"""The pool of workers that the settings name, and the devices of its workers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.errors import PrivFedTalkError
from training.execution.engine import Pool
from training.settings import ExecutionSettings


def open_pool(settings: ExecutionSettings, workers: int) -> Pool:
    """The pool that the settings name; its workers start at first use. `workers` is the number of CPU workers."""
    if settings.engine == "ray":
        from training.execution.ray_cluster import RayPool

        return RayPool(settings, workers)
    if settings.engine == "here":
        from training.execution.here import HerePool

        return HerePool(worker_devices(settings.devices, 1)[0])
    from training.execution.local import LocalPool

    return LocalPool(worker_devices(settings.devices, workers), settings.restarts)


def worker_devices(named: Sequence[str], workers: int) -> list[str]:
    """A device for each worker: the named ones, else every GPU of this machine, else the CPU `workers` times."""
    available = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    missing = [name for name in named if name != "cpu" and name not in available]
    if missing:
        raise PrivFedTalkError(
            f"execution.devices names {', '.join(missing)}; this machine has {', '.join(available) or 'no GPU'}",
            "name devices that are there, or none: then every GPU is used, and the CPU where there is none",
        )
    return list(named) or available or ["cpu"] * workers
