"""A trained federation as measurements receive it: its run, and its adapters in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.folders import RunFolder
from training.federation.client.training import ClientTrainer
from training.federation.methods.base import Theta
from training.model.backbones.interface import Backbone
from training.settings import TrainingSettings


@dataclass
class Trained:
    """A trained federation: its run, and its adapters in memory.

    `shared` has the shared adapter after each round; `own`, by round and client, the adapters of a method whose clients
    share none. By client, `personal` has what personalisation made of the last shared adapter, and `scores` the last
    score that the client gave itself.
    """

    run: RunFolder
    method: str
    training: TrainingSettings
    seed: int
    trainer: ClientTrainer
    shared: dict[int, Theta] = field(default_factory=dict)
    own: dict[int, dict[str, Theta]] = field(default_factory=dict)
    personal: dict[str, Theta] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The number of the last round."""
        return max(self.own or self.shared)

    def of(self, number: int, client: str) -> Theta:
        """The adapter that serves a client after a round."""
        return self.own[number][client] if number in self.own else self.shared[number]

    def model(self, theta: Theta) -> Backbone:
        """The backbone with an adapter. It is always the same network, which the next call changes."""
        self.trainer.adapter.load_vector(theta)
        return self.trainer.adapter.backbone
