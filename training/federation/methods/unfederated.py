"""The two ends between which federation lies: all clips in one place, and every client alone.

Both go on with one AdamW over all rounds, as nobody would restart it who need not.
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
    """Training goes on at the client's own adapter, whatever the server announces."""

    def start(self, theta: Theta) -> Theta:
        return self.state.get("theta", theta)

    def end(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        import torch

        super().end(parameters, optimizer)
        self.state["theta"] = torch.cat([p.detach().float().flatten().cpu() for p in parameters]).numpy()


class StandingServer(ServerRule):
    """Nothing arrives, so theta stays where it started."""

    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        return theta, state


class Centralized(Method):
    """All clients' training clips pooled, one trainer: the upper bound that no federation of people may compute.

    A round has local_steps for each client that a federated round would have: as many batches, of the same size,
    as the federated methods see in that round all together. It takes them one after the other.
    """

    label = "Centralized"
    description = "all clients' clips in one place, as many steps: what no federation of people may compute"
    local_rule = ContinuedSteps
    pooled = True
    no_promise = "All clips were trained on in one place: clipping bounds the pool, not what one person does to it."

    def configure(self, settings: TrainingSettings) -> TrainingSettings:
        federation = settings.federation.model_copy(update={"server_rate": 1.0})
        return settings.model_copy(update={"federation": federation})


class Local(Method):
    """Each client alone: the same clips, rounds, steps and draws as under FedAvg, and never a server's step."""

    label = "Local"
    description = "each client alone with its own clips; strangers get the frozen backbone"
    local_rule = OwnSteps
    server_rule = StandingServer
    sends = False
    no_promise = "Each client has an adapter of its own, trained without noise: none of them may leave its client."
