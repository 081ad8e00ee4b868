"""What the rounds ask for and what gives it: an engine trains one method's clients, a pool has the workers.

A pool outlives a method: workers of the next method keep their libraries, models and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch

from common.errors import PrivFedTalkError
from training.execution.trainer import Job, Order
from training.federation.client import Announcement, LocalUpdate
from training.federation.methods.base import Theta
from training.settings import ExecutionSettings


class Engine(Protocol):
    """Trains the clients of a round."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        """Each client's update from the same announcement, in the order of `clients`."""
        ...


class Pool(Protocol):
    """Workers that take the next client as soon as they are free; a context manager that ends them."""

    @property
    def device(self) -> str:
        """A device of the workers' kind for the one who leads: for validation, and to see what a step needs."""
        ...

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """What each client sends back, in the order of `clients`; those that send nothing are left out.

        A worker that dies is replaced and its client given again, which changes nothing: what is random is drawn
        from (seed, client, round). A client that ends more workers than `execution.restarts` allows is an error.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class PooledEngine:
    """One method's engine on a pool's workers."""

    pool: Pool
    job: Job

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        """See `Engine.train`."""
        return self.pool.run(self.job, Order(announced), clients)

    def personalise(self, clients: Sequence[str], theta: Theta, steps: int) -> None:
        """Each client's own adapter, made by `steps` from theta and saved where only the client keeps it."""
        self.pool.run(self.job, Order(Announcement(0, theta), steps), clients)


def open_pool(settings: ExecutionSettings, workers: int) -> Pool:
    """The pool that the settings name; nothing is started before it is used. `workers` counts CPU workers."""
    if settings.engine == "ray":
        from training.execution.ray_cluster import RayPool

        return RayPool(settings, workers)
    if settings.engine == "here":
        from training.execution.here import HerePool

        return HerePool(worker_devices(settings.devices, 1)[0])
    from training.execution.local import LocalPool

    return LocalPool(worker_devices(settings.devices, workers), settings.restarts)


def worker_devices(named: Sequence[str], workers: int) -> list[str]:
    """A device for each worker: those that are named, else every GPU of this machine, else the CPU `workers` times."""
    there = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    missing = [name for name in named if name != "cpu" and name not in there]
    if missing:
        raise PrivFedTalkError(
            f"execution.devices names {', '.join(missing)}; this machine has {', '.join(there) or 'no GPU'}",
            "name devices that are there, or none: then every GPU is used, and the CPU where there is none",
        )
    return list(named) or there or ["cpu"] * workers


def died_too_often(client: str, order: Order, deaths: int, how: str) -> PrivFedTalkError:
    """The error for a client that ends every worker it is given to."""
    return PrivFedTalkError(
        f"{order.name}: client {client} has ended its worker {deaths} times ({how})",
        "free memory, use fewer workers or set federation.memory_budget_gb, then run the same command: it goes on "
        "where it stopped; if it ends there again, look at this client's shards",
    )
