"""FedAdam (Reddi et al. 2021, https://arxiv.org/abs/2003.00295): the server treats the mean update as a gradient.

Use it where coordinates of the adapter move at very different scales. It uses only the released mean, so it costs no
privacy: with `training.components.fedadam: [dp, secure_aggregation]` the guarantee is that of the release.
"""

from __future__ import annotations

import numpy as np

from training.federation.methods.base import Method, Released, ServerRule, State, Theta


class AdamServer(ServerRule):
    """Algorithm 2: m = b1 m + (1 - b1) D, v = b2 v + (1 - b2) D^2, theta + rate m / (sqrt(v) + tau).

    As in the paper, there is no bias correction and v starts at tau^2.
    """

    def initial(self, theta: Theta) -> State:
        tau = self.settings.fedadam.tau
        return {"m": np.zeros_like(theta), "v": np.full_like(theta, tau**2)}

    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        adam = self.settings.fedadam
        mean = released.total / released.denominator
        m = adam.beta1 * state["m"].astype(np.float64) + (1 - adam.beta1) * mean
        v = adam.beta2 * state["v"].astype(np.float64) + (1 - adam.beta2) * mean**2
        new_theta = theta + adam.learning_rate * m / (np.sqrt(v) + adam.tau)
        return new_theta.astype(np.float32), {"m": m.astype(np.float32), "v": v.astype(np.float32)}


class FedAdam(Method):
    """FedAvg's clients with an adaptive server."""

    label = "FedAdam"
    description = "FedAvg under an adaptive server"
    own_settings = "fedadam"
    server_rule = AdamServer
    averages = False
