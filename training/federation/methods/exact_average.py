"""FedEx-LoRA (Singhal et al. 2024, https://arxiv.org/abs/2410.09432): `adapter.averaging: fedex` with any method.

The mean of the clients' B times the mean of their A is not the mean of their B A. The difference,

    R' = R + (1 - eta) B A + eta sum_k w_k B_k A_k - B' A',      w_k = a_k / sum_j a_j, eta the server's rate,

is added to the frozen weights of every client, W + s (R + B A) with LoRA's scale s. With eta = 1, the paper's case, the
weights after a round are the weighted mean of the clients' weights; otherwise they move a share eta of the way there.
R has full rank after a few rounds, so it is stored dense at the end of theta: [A and B | R].

Cost: clients upload nothing more, since the server has every A_k and B_k from the updates; every round downloads R, 4
bytes for each weight of an adapted layer. The method needs each client's factors and not only their sum, so secure
aggregation would hide what it needs and noise on the sum would not protect the factors: `check` refuses both. Under
privacy use `ffa`, which is exact for sums too.
"""

from __future__ import annotations

import numpy as np

from common.errors import PrivFedTalkError
from training.adapters.factors import Factors
from training.federation.methods.base import Released, ServerRule, State, Theta
from training.settings import TrainingSettings


class ExactAverage(ServerRule):
    """A method's server rule on A and B, plus the update of the residual R; clients of weight zero are left out."""

    def __init__(self, rule: ServerRule, factors: Factors) -> None:
        super().__init__(rule.settings)
        self.rule, self.factors = rule, factors

    def initial(self, theta: Theta) -> State:
        return self.rule.initial(self._factors_of(theta))

    def announce(self, state: State) -> State:
        return self.rule.announce(state)

    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        old = self._factors_of(theta)
        new, new_state = self.rule.step(old, released, state)
        rate, products = self.settings.federation.server_rate, self.factors.products
        mean, weights = np.zeros(self.factors.size), 0.0
        for weight, update in released.each:
            if weight > 0:
                mean += weight * products(old + update / weight)
                weights += weight
        residual = theta[len(old) :].astype(np.float64)
        residual += (1 - rate) * products(old) + rate * mean / weights - products(new)
        return np.concatenate([new, residual.astype(np.float32)]), new_state

    def _factors_of(self, theta: Theta) -> Theta:
        return theta[: len(theta) - self.factors.size]


def check(name: str, settings: TrainingSettings, averages: bool) -> None:
    """Raise PrivFedTalkError if `fedex` is set but cannot be exact; `settings` are those of the method `name`."""
    if settings.adapter.averaging != "fedex":
        return
    if settings.privacy.mode != "none" or settings.privacy.secure_aggregation:
        raise PrivFedTalkError(
            f"adapter.averaging is fedex, and {name} has dp or secure_aggregation: the server needs each client's own "
            "A and B, which masks hide, and the residual of their products would be published without noise",
            f"set training.adapter.averaging=ffa, which is exact in sums too, or leave dp and secure_aggregation out "
            f"of training.components.{name}",
        )
    if not averages:
        raise PrivFedTalkError(
            f"adapter.averaging is fedex, and the server of {name} does not average, so there is no mean to be exact",
            "set training.adapter.averaging=ffa or plain for it, or leave it out of training.methods",
        )
