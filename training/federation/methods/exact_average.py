"""FedEx-LoRA (Singhal et al. 2024, https://arxiv.org/abs/2410.09432): `adapter.averaging: fedex` with any method.

The mean of the clients' A and the mean of their B do not multiply to the mean of their B A. What is missing,

    R' = R + (1 - eta) B A + eta sum_k w_k B_k A_k - B' A',      w_k = a_k / sum_j a_j, eta the server's rate,

is added to the frozen weights of everybody, W + s (R + B A) with LoRA's scale s, so that the weights after a round are
the weighted mean of the clients' weights (with eta = 1, the paper's case; else as far towards it as eta says). R is of
full rank after a few rounds, so it is kept dense, at the end of theta: [A and B | R].

Cost: nothing more goes up, since the server has every A_k and B_k from the update that it receives; R comes down in
every round, 4 bytes for each weight of an adapted layer. That it needs every client's factors and not their sum is why
it has no place under secure aggregation, and why noise on the sum would not protect them: `check` refuses both. `ffa`
is exact there.
"""

from __future__ import annotations

import numpy as np

from common.errors import PrivFedTalkError
from training.adapters.factors import Factors
from training.federation.methods.base import Released, ServerRule, State, Theta
from training.settings import TrainingSettings


class ExactAverage(ServerRule):
    """A method's server rule on A and B, and the residual beside it. Whose weight is zero has no part in it."""

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
    """Refuse `fedex` where it cannot hold; `settings` are those that the method runs under."""
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
