"""SCAFFOLD (Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378): control variates against client drift.

Use it where clients differ so much that many local steps pull each towards its own optimum. A control variate
helps only if its client takes part again; with thousands of clients that are sampled once each, use FedProx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.errors import PrivFedTalkError
from training.federation.methods.base import LocalRule, Method, Released, ServerRule, State, Theta
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class ControlledSteps(LocalRule):
    """Replaces each gradient g by g - c_k + c; after the round, c_k is the mean of the client's own raw gradients g.

    With SGD that mean *is* option II of Algorithm 1: x - y_k = lr sum(g - c_k + c), so that
    c_k - c + (x - y_k)/(K lr) = mean g. As a mean of gradients it works for any optimiser. AdamW, which the other
    methods use, keeps the right fixed point: if the mean gradient over clients is zero and each c_k is its client's
    gradient, every corrected gradient is zero. AdamW converges to it only up to its step length; `sgd` is the paper's.
    """

    def begin(self, parameters: Sequence[nn.Parameter]) -> Optimizer:
        from torch.optim import SGD

        size = sum(parameter.numel() for parameter in parameters)
        self.c = self.shared["c"]
        self.c_k = self.state.get("c", np.zeros(size, np.float32))
        self.gradients, self.steps = np.zeros(size, np.float64), 0
        settings = self.settings.scaffold
        if settings.optimizer == "sgd":
            return SGD(parameters, lr=settings.sgd_learning_rate)
        return super().begin(parameters)

    def correct(self, parameters: Sequence[nn.Parameter]) -> None:
        import torch

        gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        self.gradients += gradient.cpu().numpy()
        self.steps += 1
        drift = torch.from_numpy(self.c - self.c_k).to(gradient.device)
        for parameter, part in zip(parameters, drift.split([p.numel() for p in parameters]), strict=True):
            assert parameter.grad is not None, "a parameter of the adapter has no gradient"
            parameter.grad += part.view_as(parameter)

    def end(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        c_k = (self.gradients / max(1, self.steps)).astype(np.float32)
        self.extra = {"c": c_k - self.c_k}
        self.state = {"c": c_k}


class ControlledServer(ServerRule):
    """Moves c by the mean change of the clients' c_k, times the cohort's share of all clients.

    Weights are FedAvg's (clip counts), so with all clients in every round c stays the weighted mean of all c_k.
    """

    def initial(self, theta: Theta) -> State:
        return {"c": np.zeros_like(theta)}

    def announce(self, state: State) -> State:
        return {"c": state["c"]}

    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        new_theta, _ = super().step(theta, released, state)
        return new_theta, {"c": state["c"] + np.float32(released.share) * released.extra["c"]}


class Scaffold(Method):
    """FedAvg with control variates on the adapter's vector."""

    label = "SCAFFOLD"
    description = "FedAvg with control variates against client drift"
    own_settings = "scaffold"
    local_rule = ControlledSteps
    server_rule = ControlledServer

    def check(self, settings: TrainingSettings) -> None:
        if settings.privacy.mode != "none" or settings.privacy.secure_aggregation:
            raise PrivFedTalkError(
                "scaffold sends each client's change of control variate beside its update: a second vector of "
                "gradients, that is neither clipped nor noised nor masked, and would void the guarantee",
                "leave dp and secure_aggregation out of training.components.scaffold, or use fedprox, whose clients "
                "send the update alone",
            )
