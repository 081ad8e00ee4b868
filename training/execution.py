"""Where clients train: one persistent worker process for each device or core, models built once.

A worker takes the next client as soon as it is free, so a slow client holds nobody up inside a round. Each CPU
worker computes on one thread: two workers on two cores do not fight for them, and a client's update is the same
bit for bit whichever worker it lands on and however many there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from preparation.errors import PrivFedTalkError
from training.autoencoders.sources import load_autoencoder
from training.backbone.tiny import TinyBackbone
from training.client import Announcement, ClientTrainer, LocalUpdate
from training.frozen.loading import open_pixel_terms
from training.homes import Homes
from training.methods.base import Theta
from training.rulers import IdentityRuler
from training.settings import TrainingSettings

T = TypeVar("T")


class Engine(Protocol):
    """Trains the clients of a round."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        """Each client's update from the same announcement, in the order of `clients`."""
        ...


def open_trainer(homes: Homes, settings: TrainingSettings, seed: int) -> ClientTrainer:
    """The one that does any client's work, on the frozen models of the run."""
    run = homes.run
    vae = load_autoencoder(run.model("vae"))
    return ClientTrainer(
        homes,
        TinyBackbone.load(run.model("backbone")),
        vae,
        IdentityRuler.load(run.model("rulers") / "identity"),
        settings,
        seed,
        open_pixel_terms(run, settings.objective, vae.decode),
    )


class LocalEngine:
    """Worker processes on this machine; a context manager that ends them."""

    def __init__(self, homes: Homes, settings: TrainingSettings, seed: int, workers: int) -> None:
        self._pool = ProcessPoolExecutor(
            max_workers=workers,
            mp_context=get_context("spawn"),
            initializer=_start_worker,
            initargs=(homes, settings, seed),
        )

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        """See `Engine.train`; a worker that dies ends the round with an error, and the checkpoint stays."""
        futures: dict[str, Future[LocalUpdate]] = {
            client: self._pool.submit(_train, client, announced) for client in clients
        }
        return self._gather(futures, f"round {announced.round}")

    def personalise(self, clients: Sequence[str], theta: Theta, steps: int) -> None:
        """Each client's own adapter, made by `steps` from theta and saved where only the client keeps it."""
        self._gather(
            {client: self._pool.submit(_personalise, client, theta, steps) for client in clients}, "personalisation"
        )

    @staticmethod
    def _gather(futures: dict[str, Future[T]], what: str) -> dict[str, T]:
        try:
            return {client: future.result() for client, future in futures.items()}
        except BrokenProcessPool as error:
            raise PrivFedTalkError(
                f"{what} lost a worker process ({error})",
                "free memory or use fewer workers, then run the same command: it goes on where it stopped",
            ) from error

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process builds once."""

    trainer: ClientTrainer


def _start_worker(homes: Homes, settings: TrainingSettings, seed: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    _Worker.trainer = open_trainer(homes, settings, seed)


def _personalise(client: str, theta: Theta, steps: int) -> None:
    _Worker.trainer.personalise(client, theta, steps)


def _train(client: str, announced: Announcement) -> LocalUpdate:
    return _Worker.trainer.train(client, announced)
