"""No workers at all: clients train in the process that asks, one after the other.

Choose it for federations so small that starting workers, which load the libraries anew, takes longer than their work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import torch

from training.execution.trainer import Bench, Job, Order, carry_out
from training.federation.client.training import ClientTrainer, LocalUpdate


class HerePool:
    """A pool of this process alone, with the results that workers would have had."""

    def __init__(self, device: str) -> None:
        self._device, self._bench = device, Bench(torch.device(device))
        self._held: tuple[Job, ClientTrainer] | None = None

    @property
    def device(self) -> str:
        """See `Pool.device`."""
        return self._device

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """See `Pool.run`; a client whose training fails ends the run, as it would end every worker."""
        if self._held is None or self._held[0] != job:
            self._held = (job, self._bench.trainer(job))
        trainer = self._held[1]
        with _one_thread():
            updates = {client: carry_out(trainer, client, order) for client in clients}
        return {client: update for client, update in updates.items() if update is not None}

    def __enter__(self) -> HerePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = None


@contextmanager
def _one_thread() -> Iterator[None]:
    """As workers compute, so that an update is the same bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
