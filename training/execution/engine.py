"""What trains a round's clients: a pool has the workers, an engine is one method's use of it.

A pool outlives a method: workers of the next method keep their libraries, models and memory.
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


def died_too_often(client: str, order: Order, deaths: int, how: str) -> PrivFedTalkError:
    """The error for a client that ends every worker it is given to."""
    return PrivFedTalkError(
        f"{order.name}: client {client} has ended its worker {deaths} times ({how})",
        "free memory, use fewer workers or set federation.memory_budget_gb, then run the same command: it goes on "
        "where it stopped; if it ends there again, look at this client's shards",
    )
