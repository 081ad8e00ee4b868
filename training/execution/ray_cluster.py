"""A pool of Ray actors, on this machine or on a cluster; needs the extra `ray`.

Choose it for several machines; on one, `local` starts faster and needs no extra. Every machine needs the project
installed, and the run's folder under the same path (a shared file system).
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch

from common.errors import PrivFedTalkError
from training.execution.engine import died_too_often
from training.execution.trainer import Bench, Job, Order, carry_out
from training.federation.client.training import ClientTrainer, LocalUpdate
from training.settings import ExecutionSettings


class RayPool:
    """Ray actors, one for each GPU of the cluster, or `workers` actors without GPUs; they start at first use.

    An actor that dies, with its process or with its machine, is replaced where the cluster has room. Its client goes
    to the first actor that is free.
    """

    def __init__(self, settings: ExecutionSettings, workers: int) -> None:
        self._settings, self._workers = settings, workers
        self._ray: Any = None
        self._opened = False
        self._gpus = 0.0
        self._actors: list[Any] = []
        self._starting: dict[Any, Any] = {}  # future that is ready when the actor has started -> the actor

    @property
    def device(self) -> str:
        """See `Pool.device`."""
        return "cuda:0" if torch.cuda.is_available() else "cpu"

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """See `Pool.run`."""
        self._open()
        held = self._ray.put((job, order))
        busy: dict[Any, tuple[Any, str]] = {}
        try:
            return self._run(order, held, clients, busy)
        except BaseException:
            # An actor that is still busy would send an answer that nobody reads, and may write a client's state.
            for actor, _ in busy.values():
                self._drop(actor)
            raise

    def _run(
        self, order: Order, held: Any, clients: Sequence[str], busy: dict[Any, tuple[Any, str]]
    ) -> dict[str, LocalUpdate]:
        waiting, answers = deque(clients), dict[str, LocalUpdate | None]()
        deaths: Counter[str] = Counter()
        while len(answers) < len(clients):
            working = [actor for actor, _ in busy.values()]
            for actor in [actor for actor in self._actors if actor not in working]:
                if waiting:
                    client = waiting.popleft()
                    # In a list, the reference itself reaches the actor, which then reads each order only once.
                    busy[actor.take.remote([held], client)] = (actor, client)
            ready = self._ray.wait([*busy, *self._starting], num_returns=1)[0][0]
            if ready in self._starting:
                self._started(ready, order)
                continue
            actor, client = busy.pop(ready)
            try:
                answers[client] = _copied(self._ray.get(ready))
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, Exception) else error
                cause.add_note(f"in an actor of the cluster:\n{error}")
                raise cause from None
            except self._deadly as error:
                how = type(error).__name__
                self._drop(actor)
                deaths[client] += 1
                if deaths[client] > self._settings.restarts:
                    raise died_too_often(client, order, deaths[client], how) from error
                sys.stderr.write(f"{order.name}: the actor of client {client} died ({how}); another takes the client\n")
                waiting.appendleft(client)
                self._start()
        return {client: update for client in clients if (update := answers[client]) is not None}

    def _open(self) -> None:
        if self._ray is not None:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.exceptions as deadly
        except ImportError as error:
            raise PrivFedTalkError(
                "execution.engine is ray, and Ray is not installed",
                "install the extra: pip install 'privfedtalk[ray]', or set execution.engine=local",
            ) from error
        address = self._settings.ray_address
        if not ray.is_initialized():
            here = {} if address else {"num_cpus": max(self._workers, self._settings.ray_actors or 1)}
            try:
                ray.init(
                    address=address or "local",
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **here,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise PrivFedTalkError(
                    f"no Ray cluster can be used at {address or 'this machine'}: {error}",
                    "start one (`ray start --head`), name its address in execution.ray_address, or set "
                    "execution.engine=local",
                ) from error
            self._opened = True
        self._ray = ray
        self._deadly = (
            deadly.RayActorError,
            deadly.ObjectLostError,
            deadly.NodeDiedError,
            deadly.WorkerCrashedError,
        )
        resources = ray.cluster_resources()
        gpus = resources.get("GPU", 0.0)
        self._gpus = self._settings.gpus_per_actor if gpus else 0.0
        wanted = self._settings.ray_actors or (int(gpus / self._gpus) if gpus else self._workers)
        for _ in range(max(1, min(wanted, int(resources.get("CPU", 1))))):
            self._start()

    def _start(self) -> None:
        kind = self._ray.remote(Worker).options(
            num_cpus=1, num_gpus=self._gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        actor = kind.remote("cuda:0" if self._gpus else "cpu")  # the first GPU that Ray makes visible to the actor
        self._starting[actor.ready.remote()] = actor

    def _started(self, ready: Any, order: Order) -> None:
        actor = self._starting.pop(ready)
        try:
            self._ray.get(ready)
            self._actors.append(actor)
        except self._ray.exceptions.RayError as error:
            self._drop(actor)
            if not self._actors and not self._starting:
                raise PrivFedTalkError(
                    f"{order.name}: no actor of the cluster starts: {error}",
                    "look at the cluster (`ray status`); every machine needs the project installed, the same Python "
                    "and the same Ray",
                ) from error

    def _drop(self, actor: Any) -> None:
        self._ray.kill(actor)
        self._actors = [other for other in self._actors if other != actor]

    def close(self) -> None:
        """End the actors, and Ray if this pool started or joined it."""
        if self._ray is None:
            return
        for actor in [*self._actors, *self._starting.values()]:
            self._ray.kill(actor)
        self._actors, self._starting = [], {}
        if self._opened:
            self._ray.shutdown()
        self._ray = None

    def __enter__(self) -> RayPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Worker:
    """The actor: a `Bench` on one thread, so that its updates equal a local worker's bit for bit."""

    def __init__(self, device: str) -> None:
        torch.set_num_threads(1)
        self._bench = Bench(torch.device(device))
        self._read: Any = None
        self._job: Job | None = None
        self._order: Order | None = None
        self._trainer: ClientTrainer | None = None

    def ready(self) -> int:
        """The process's id; the answer shows that the actor has started and its libraries are loaded."""
        return os.getpid()

    def take(self, held: list[Any], client: str) -> LocalUpdate | None:
        """Carry out the order in `held` for one client."""
        if self._read != held[0]:
            import ray

            job, order = ray.get(held[0])
            if self._trainer is None or job != self._job:
                self._job, self._trainer = job, self._bench.trainer(job)
            announced = order.announced
            shared = {name: value.copy() for name, value in announced.shared.items()}
            # Ray's arrays are read-only views of its store.
            self._order = replace(order, announced=replace(announced, theta=announced.theta.copy(), shared=shared))
            self._read = held[0]
        assert self._trainer is not None and self._order is not None, "an order that was not read"
        return carry_out(self._trainer, client, self._order)


def _copied(update: LocalUpdate | None) -> LocalUpdate | None:
    """A copy of the update outside of Ray's store, which can then free its own."""
    if update is None:
        return None
    return replace(
        update, delta=update.delta.copy(), extra={name: value.copy() for name, value in update.extra.items()}
    )
