"""What a worker builds once, wherever it runs: the models of a run, and a trainer for the current method."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.adapters.adapter import Adapter
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement, ClientTrainer, LocalUpdate
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.sources import load_autoencoder
from training.model.backbones.kinds import load_backbone
from training.model.compute import speed_up
from training.model.frozen.loading import open_pixel_terms
from training.model.frozen.rulers import IdentityRuler
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Job:
    """One method's training on one run: all that a worker must know to train any of its clients."""

    storage: ClientStorage
    settings: TrainingSettings
    seed: int


@dataclass(frozen=True)
class Order:
    """A task for several clients: a round's training, or, if `personal_steps` is not 0, personalisation."""

    announced: Announcement
    personal_steps: int = 0

    @property
    def name(self) -> str:
        return "personalisation" if self.personal_steps else f"round {self.announced.round}"


class Bench:
    """A worker's models on its device; another method of the same run loads only its own terms.

    The adapter lies inside the backbone, so a method with another kind of adapter loads the backbone again. Each order
    loads the whole adapter vector, so nothing of one method is left for the next.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._models: tuple[str, Autoencoder, IdentityRuler] | None = None
        self._adapter: tuple[str, Adapter] | None = None
        if device.type == "cuda":
            torch.cuda.set_device(device)
            torch.backends.cudnn.deterministic = True  # updates agree bit for bit whichever worker they come from

    def trainer(self, job: Job) -> ClientTrainer:
        """The trainer for any client of the job."""
        run, settings = job.storage.run, job.settings
        root = str(run.root)
        if self._models is None or self._models[0] != root:
            vae = load_autoencoder(run.model("vae")).to(self.device)
            identity = IdentityRuler.load(run.model("rulers") / "identity").to(self.device)
            self._models = (root, vae, identity)
        key = f"{root} {settings.adapter.fingerprint()} {settings.compute.fingerprint()} {job.seed}"
        if self._adapter is None or self._adapter[0] != key:
            backbone = load_backbone(run.model("backbone")).to(self.device)
            adapter = Adapter(backbone, settings.adapter, job.seed)
            speed_up(adapter.backbone, settings.compute)
            self._adapter = (key, adapter)
        _, vae, identity = self._models
        terms = open_pixel_terms(run, settings.objective, vae.decode)
        return ClientTrainer(job.storage, self._adapter[1], vae, identity, settings, job.seed, terms)


def open_trainer(storage: ClientStorage, settings: TrainingSettings, seed: int, device: str = "cpu") -> ClientTrainer:
    """The trainer for any client, on the frozen models of the run."""
    return Bench(torch.device(device)).trainer(Job(storage, settings, seed))


def carry_out(trainer: ClientTrainer, client: str, order: Order) -> LocalUpdate | None:
    """Carry out an order for one client; the update of a round's training, None after personalisation."""
    if order.personal_steps:
        trainer.personalise(client, order.announced.theta, order.personal_steps)
        return None
    return trainer.train(client, order.announced)
