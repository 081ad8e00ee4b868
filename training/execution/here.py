"""A pool without worker processes: clients train in this process, one after the other.

Choose it for federations so small that starting workers, which load the libraries anew, takes longer than training.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import torch

from training.execution.trainer import Bench, Job, Order, carry_out
from training.federation.client.training import ClientTrainer, LocalUpdate
from training.model.halves import one_thread


class HerePool:
    """A pool that consists of this process; results are the same as from workers."""

    def __init__(self, device: str) -> None:
        self._device, self._bench = device, Bench(torch.device(device))
        self._current: tuple[Job, ClientTrainer] | None = None

    @property
    def device(self) -> str:
        """See `Pool.device`."""
        return self._device

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """See `Pool.run`; an error in a client's training ends the run. Nothing is restarted."""
        if self._current is None or self._current[0] != job:
            self._current = (job, self._bench.trainer(job))
        trainer = self._current[1]
        with one_thread():  # as workers compute, so that updates agree bit for bit
            updates = {client: carry_out(trainer, client, order) for client in clients}
        return {client: update for client, update in updates.items() if update is not None}

    def __enter__(self) -> HerePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._current = None
