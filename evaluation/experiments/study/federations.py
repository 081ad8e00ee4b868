"""One cell's training, in this process and on one thread: the study's workers are busy with a cell each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.folders import RunFolder
from evaluation.experiments.study.cells import Arm
from training.adapters.membership import POOLED
from training.execution import open_trainer
from training.federation.algorithm import Start, run_federation
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement, ClientTrainer, LocalUpdate
from training.federation.methods import named
from training.federation.methods.base import Theta
from training.pipeline import pooled_steps
from training.settings import TrainingSettings


@dataclass(frozen=True)
class StudyStorage(ClientStorage):
    """Clips are read in the world's folder, and what clients keep stays in the cell's own: cells share worlds."""

    world: Path = Path()

    @property
    def clips(self) -> RunFolder:
        return RunFolder(self.world)


@dataclass
class Trained:
    """What a cell's training left: after each round the shared adapter, or each client's own; by client, what
    personalisation made of the last shared one, and the scores that the clients gave themselves."""

    trainer: ClientTrainer
    shared: dict[int, Theta] = field(default_factory=dict)
    own: dict[int, dict[str, Theta]] = field(default_factory=dict)
    personal: dict[str, Theta] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def of(self, number: int, client: str) -> Theta:
        """The adapter that serves a client after a round."""
        return self.own[number][client] if number in self.own else self.shared[number]


class InProcess:
    """The engine without processes; it keeps what each round announced and what clients without a server made."""

    def __init__(self, trained: Trained, keeps_own: bool) -> None:
        self.trained, self.keeps_own = trained, keeps_own

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        self.trained.shared[announced.round - 1] = announced.theta
        updates = {}
        for client in clients:
            updates[client] = self.trained.trainer.train(client, announced)
            self.trained.scores[client] = updates[client].score
            if self.keeps_own:
                vector = self.trained.trainer.adapter.vector()
                self.trained.own.setdefault(announced.round, {})[client] = vector
        return updates


def train(
    world: RunFolder,
    scratch: Path,
    arm: Arm,
    clients: Sequence[str],
    settings: TrainingSettings,
    seed: int,
    personal_steps: int,
    device: str = "cpu",
) -> Trained:
    """Run the arm's federation over `clients` of a world; `scratch` holds what clients keep and may go afterwards."""
    method = arm.method or "fedavg"
    pooled = named(method).pooled
    storage = StudyStorage(RunFolder(scratch), method, tuple(clients) if pooled else (), world=world.root)
    if pooled:
        settings = pooled_steps(settings, len(clients))
    (scratch / "models").symlink_to(world.model("").resolve())
    trained = Trained(open_trainer(storage, settings, seed, device))
    adapter = trained.trainer.adapter
    start = Start(adapter.vector(), adapter.base_sha256, adapter.factors)
    if arm.method is None:
        trained.shared[0] = start.theta
        return trained
    engine = InProcess(trained, keeps_own=not named(method).sends)
    people = [POOLED] if pooled else clients
    result = run_federation(engine, method, start, people, _unmeasured, settings, scratch / "rounds", seed)
    trained.shared[len(result.records)] = result.theta
    if arm.personal:
        for client in clients:
            trained.trainer.personalise(client, result.theta, personal_steps)
            trained.personal[client] = trained.trainer.adapter.vector()
    return trained


def _unmeasured(theta: Theta) -> float:
    """One number for all: public validation would take as long as a client's training, and no round is chosen by it."""
    return 0.0
