"""Pools and engines: a pool has the workers that train clients, an engine is one method's use of a pool.

A pool can serve several methods in turn; its workers keep their libraries, models and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from common.errors import PrivFedTalkError
from training.execution.trainer import Job, Order
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods.base import Theta


class Pool(Protocol):
    """Workers that take the next client as soon as they are free. A context manager, which ends the workers."""

    @property
    def device(self) -> str:
        """A device like the workers', for the coordinating process: it validates there and measures a step's memory."""
        ...

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """Each client's update, in the order of `clients`; clients that send nothing are left out.

        A worker that dies is replaced, and its client is trained again. Outside of a guarantee the update is the same,
        since its draws come from (seed, client, round). Raises PrivFedTalkError if a client ends more workers than
        `execution.restarts` allows.
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
        """Train each client's own adapter from theta for `steps` steps, and save it in the client's folder."""
        self.pool.run(self.job, Order(Announcement(0, theta), steps), clients)


def died_too_often(client: str, order: Order, deaths: int, how: str) -> PrivFedTalkError:
    """The error for a client whose workers die repeatedly; `how` describes the last death."""
    return PrivFedTalkError(
        f"{order.name}: client {client} has ended its worker {deaths} times ({how})",
        "free memory, use fewer workers or set federation.memory_budget_gb, then run the same command: it goes on "
        "where it stopped; if it ends there again, look at this client's shards",
    )
