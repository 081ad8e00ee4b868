"""Trains a point's federation in a scratch run, in this process, and keeps the adapters of each round in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch

from common.folders import RunFolder
from evaluation.experiments.links import link_networks, link_people
from evaluation.experiments.points import Federation
from evaluation.experiments.trained import Trained
from preparation.clients.roles import load_clients, load_people, of_role, save_clients
from preparation.settings import ConsentSettings
from preparation.shards.gate import Gate
from training.execution.pools import worker_devices
from training.execution.trainer import Bench, Job, Order, carry_out, open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer, LocalUpdate
from training.federation.methods import configure
from training.federation.methods.base import Theta
from training.pipeline import federate
from training.settings import TrainingSettings


class RecordingPool:
    """Trains clients in this process; keeps the shared adapter that each round announced, the clients' own adapters
    and personalised ones, and their last scores."""

    def __init__(self, device: str) -> None:
        self._device, self._bench = device, Bench(torch.device(device))
        self._held: tuple[Job, ClientTrainer] | None = None
        self.shared: dict[int, Theta] = {}
        self.own: dict[int, dict[str, Theta]] = {}
        self.personal: dict[str, Theta] = {}
        self.scores: dict[str, float] = {}

    @property
    def device(self) -> str:
        """See `Pool.device`."""
        return self._device

    @property
    def trainer(self) -> ClientTrainer:
        """The trainer that trained all clients."""
        assert self._held is not None, "a federation has trained"
        return self._held[1]

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """See `Pool.run`; a client whose training fails ends the federation."""
        if self._held is None or self._held[0] != job:
            self._held = (job, self._bench.trainer(job))
        number, updates = order.announced.round, {}
        if not order.personal_steps:
            self.shared[number - 1] = order.announced.theta
        for client in clients:
            update = carry_out(self.trainer, client, order)
            if update is None:
                self.personal[client] = self.trainer.adapter.vector()
                continue
            updates[client] = update
            self.scores[client] = update.score
            if not self.trainer.method.sends:
                self.own.setdefault(number, {})[client] = self.trainer.adapter.vector()
        return updates

    def __enter__(self) -> RecordingPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@contextmanager
def scratch_run(world: RunFolder, root: Path, federation: Federation) -> Iterator[RunFolder]:
    """A temporary run at `root`: links to a world, and a table with only those clients who take part."""
    shutil.rmtree(root, ignore_errors=True)  # left by a process that was killed
    run, table = RunFolder(root), load_clients(world.clients_table)
    link_people(run, world, sorted({*table, *load_people(world)}))
    link_networks(run, world)
    if federation.without or federation.most is not None:
        everybody = of_role(table, "client")
        asked = [client for number, client in enumerate(everybody) if number not in federation.without]
        part = Gate(world, "training", required=False).admit(asked, "the experiment")[: federation.most]
        run.clients_table.unlink()  # removes the link; the world's table stays
        left = {name: one for name, one in table.items() if one.role != "client" or name in part}
        save_clients(left, run.clients_table)
    try:
        yield run
    finally:
        shutil.rmtree(root, ignore_errors=True)


def train(run: RunFolder, federation: Federation) -> Trained:
    """Run a federation over the clients of a scratch run; its adapters stay in memory.

    Consent is not required here, because it was when the world's people were prepared; refusals still count.
    """
    method, seed = federation.method or "fedavg", federation.seed
    training = without_unread_score(method, federation.training)
    rounds: dict[str, object] = {"personalisation_steps": federation.personal_steps}
    if not federation.validated:
        rounds["keep"] = "last"  # without validation the best round is unknown
    asked = training.federation.model_copy(update=rounds)
    training = training.model_copy(update={"federation": asked, "consent": ConsentSettings(required=False)})
    device = federation.device or worker_devices(training.execution.devices, 1)[0]
    if federation.method is None:
        trainer = open_trainer(ClientStorage(run, method), configure(method, training), seed, device)
        return Trained(run, method, training, seed, trainer, shared={0: trainer.adapter.vector()})
    pool = RecordingPool(device)
    result = federate(run, method, training, seed, resume=False, pool=pool, validated=federation.validated, shown=False)
    pool.shared[len(result.records)] = result.theta
    return Trained(run, method, training, seed, pool.trainer, pool.shared, pool.own, pool.personal, pool.scores)


def without_unread_score(method: str, training: TrainingSettings) -> TrainingSettings:
    """The settings with a cheap client score where the method does not weigh clients by it, so that nobody reads it.

    Adapters stay the same to the bit: the score is sent beside the update and is not clipped with it.
    """
    if configure(method, training).privacy.gamma != 0:
        return training
    federation = training.federation.model_copy(update={"score_clips": 1, "score_frames": 2, "score_steps": 1})
    return training.model_copy(update={"federation": federation})
