"""A worker process: takes clients from its pipe, builds a job's models once, returns updates in shared memory."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np
import torch

from common.workers import end_with_parent, portable
from common.workers.processes import end_when_asked
from training.execution.shared_vectors import Block, Held, bytes_of
from training.execution.trainer import Bench, Job, Order, carry_out
from training.federation.client.training import ClientTrainer, LocalUpdate

NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Begin:
    """Message: the following clients belong to this job."""

    job: Job


@dataclass(frozen=True)
class Take:
    """Message: train this client. The order's vectors lie in `held`."""

    client: str
    order: Order
    held: Held


@dataclass(frozen=True)
class Room:
    """Reply: the worker needs a block of `size` bytes for its vectors. The block's name is sent back."""

    size: int


@dataclass(frozen=True)
class Done:
    """Reply: the client's update, with its vectors in the worker's block; None if it sends nothing."""

    update: LocalUpdate | None
    held: Held | None


@dataclass(frozen=True)
class Failed:
    """Reply: the client's training raised an error."""

    error: Exception
    trace: str


def without_vectors(order: Order) -> Order:
    """The order without its vectors, as it goes through the pipe."""
    return replace(order, announced=replace(order.announced, theta=NOTHING, shared={}))


def vectors_of(order: Order) -> dict[str, np.ndarray]:
    """The order's vectors by name, for shared memory."""
    shared = {f"shared.{name}": value for name, value in order.announced.shared.items()}
    return {"theta": order.announced.theta, **shared}


def with_vectors(order: Order, vectors: dict[str, np.ndarray]) -> Order:
    """The inverse of `without_vectors`."""
    shared = {name.removeprefix("shared."): value for name, value in vectors.items() if name != "theta"}
    return replace(order, announced=replace(order.announced, theta=vectors["theta"], shared=shared))


def restored(update: LocalUpdate, vectors: dict[str, np.ndarray]) -> LocalUpdate:
    """A client's update with its vectors put back."""
    extra = {name.removeprefix("extra."): value for name, value in vectors.items() if name != "delta"}
    return replace(update, delta=vectors["delta"], extra=extra)


def serve(connection: Connection, device: str, environment: Mapping[str, str]) -> None:
    """Train one client after the other, on one thread, until the pipe is closed.

    `environment` is the coordinating process's; the server from which this process was forked may have an older one.

    With one thread a worker, workers do not compete for cores, and a client's update is the same bit for bit whichever
    worker trains it and however many there are.
    """
    end_with_parent()
    end_when_asked()  # by the coordinating process; Ctrl-C does not reach this one
    os.environ.update(environment)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    _Server(connection, Bench(torch.device(device))).loop()


class _Server:
    def __init__(self, connection: Connection, bench: Bench) -> None:
        self.connection, self.bench = connection, bench
        self.job: Job | None = None
        self.trainer: ClientTrainer | None = None
        self.order: tuple[str, Order] | None = None  # (name of its block, the last order with its vectors)
        self.block: Block | None = None

    def loop(self) -> None:
        while True:
            try:
                message = self.connection.recv()
            except EOFError:
                return
            if isinstance(message, Begin):
                self.job, self.trainer = message.job, None
                continue
            reply: Done | Failed
            try:
                reply = self._take(message)
            except Exception as error:
                reply = Failed(portable(error), traceback.format_exc())
            self.connection.send(reply)

    def _take(self, message: Take) -> Done:
        assert self.job is not None, "a client without a job"
        if self.trainer is None:
            self.trainer = self.bench.trainer(self.job)
        if self.order is None or self.order[0] != message.held.name:
            block = Block(name=message.held.name)
            self.order = (message.held.name, with_vectors(message.order, block.read(message.held.layout)))
            block.close()
        update = carry_out(self.trainer, message.client, self.order[1])
        if update is None:
            return Done(None, None)
        vectors = {"delta": update.delta, **{f"extra.{name}": value for name, value in update.extra.items()}}
        return Done(replace(update, delta=NOTHING, extra={}), self._room_for(vectors).write(vectors))

    def _room_for(self, vectors: dict[str, np.ndarray]) -> Block:
        size = bytes_of(vectors)
        if self.block is None or self.block.size < size:
            if self.block is not None:
                self.block.close()
            self.connection.send(Room(size))
            self.block = Block(name=self.connection.recv())
        return self.block
