"""FedProx (Li et al. 2020, https://arxiv.org/abs/1812.06127): the local objective has mu/2 ||theta_k - theta^t||^2.

Use it where clients differ or do unequal work, so that no one drifts far from what was announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.federation.methods.base import LocalRule, Method

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class ProximalSteps(LocalRule):
    """The term by its proximal operator after each step of AdamW, in AdamW's own metric.

    Put into the gradient, the term would be divided by AdamW's running scale like everything else: however large
    mu, a step stays about the learning rate long, and the client leaves theta^t. Instead, with P = sqrt(v) + eps
    the diagonal by which AdamW divides and z where its step led, each step ends at

        argmin_y  mu/2 ||y - theta^t||^2 + 1/(2 lr) (y - z)^T P (y - z)  =  z + w (theta^t - z),
        w = lr mu / (P + lr mu).

    It rests where grad L_k + mu (theta - theta^t) = 0, as the objective demands; mu = 0 gives w = 0 and FedAvg bit
    for bit, mu to infinity gives w = 1 and theta^t itself.
    """

    def begin(self, parameters: Sequence[nn.Parameter]) -> Optimizer:
        self.anchor: list[Tensor] = [parameter.detach().clone() for parameter in parameters]
        return super().begin(parameters)

    def after_step(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        group = optimizer.param_groups[0]
        pull = group["lr"] * self.settings.fedprox.mu
        for parameter, anchor in zip(parameters, self.anchor, strict=True):
            moments = optimizer.state[parameter]
            correction = 1 - group["betas"][1] ** float(moments["step"])
            scale = (moments["exp_avg_sq"] / correction).sqrt() + group["eps"]
            parameter.data.lerp_(anchor, 1 - scale / (scale + pull))


class FedProx(Method):
    """FedAvg with the proximal term; its weight is `fedprox.mu`."""

    label = "FedProx"
    description = "FedAvg whose clients are held near the announced adapter"
    own_settings = "fedprox"
    local_rule = ProximalSteps
