"""The two baselines without federation: all clips in one place, and every client alone.

Both keep the moments of AdamW over all rounds, since nothing forces them to restart it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.federation.methods.base import LocalRule, Method, Released, ServerRule, State, Theta
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")


class ContinuedSteps(LocalRule):
    """AdamW whose moments are kept from round to round."""

    def begin(self, parameters: Sequence[nn.Parameter]) -> Optimizer:
        import torch

        optimizer = super().begin(parameters)
        if self.state:
            sizes = [parameter.numel() for parameter in parameters]
            parts = {name: torch.from_numpy(self.state[name]).split(sizes) for name in MOMENTS}
            for number, p in enumerate(parameters):
                moments = {name: parts[name][number].view_as(p).to(p.device, copy=True) for name in MOMENTS}
                optimizer.state[p] = {"step": torch.tensor(float(self.state["step"][0]), device=p.device), **moments}
        return optimizer

    def end(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        import torch

        moments = [optimizer.state[parameter] for parameter in parameters]
        self.state = {
            name: torch.cat([held[name].flatten() for held in moments]).cpu().numpy().astype(np.float32)
            for name in MOMENTS
        }
        self.state["step"] = np.array([float(moments[0]["step"])], np.float32)


class OwnSteps(ContinuedSteps):
    """Continues training of the client's own adapter and ignores the announced theta."""

    def start(self, theta: Theta) -> Theta:
        return self.state.get("theta", theta)

    def end(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        import torch

        super().end(parameters, optimizer)
        self.state["theta"] = torch.cat([p.detach().float().flatten().cpu() for p in parameters]).numpy()


class StandingServer(ServerRule):
    """Leaves theta unchanged, since no updates arrive."""

    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        return theta, state


class Centralized(Method):
    """One trainer on the pooled training clips of all clients: an upper bound that would break the clients' privacy.

    A round takes local_steps for each client of a federated round, one after the other: as many batches, of the same
    size, as all clients of that federated round together.
    """

    label = "Centralized"
    description = "all clients' clips in one place, the same number of steps: an upper bound that privacy forbids"
    local_rule = ContinuedSteps
    pooled = True
    no_promise = "All clips were trained on in one place: clipping bounds the pool, not what one person does to it."

    def configure(self, settings: TrainingSettings) -> TrainingSettings:
        federation = settings.federation.model_copy(update={"server_rate": 1.0})
        return settings.model_copy(update={"federation": federation})


class Local(Method):
    """Each client trains alone, with the clips, rounds, steps and draws of FedAvg; the server never moves theta."""

    label = "Local"
    description = "each client alone with its own clips; strangers get the frozen backbone"
    local_rule = OwnSteps
    server_rule = StandingServer
    sends = False
    no_promise = "Each client has an adapter of its own, trained without noise: none of them may leave its client."
