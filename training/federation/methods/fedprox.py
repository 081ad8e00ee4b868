"""FedProx (Li et al. 2020, https://arxiv.org/abs/1812.06127): a proximal term in the local objective.

The term is mu/2 ||theta_k - theta^t||^2. Use it where clients differ or do unequal work, so that no client drifts far
from the announced theta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.federation.methods.base import LocalRule, Method

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class ProximalSteps(LocalRule):
    """Applies the proximal operator of the term after each step of AdamW, in AdamW's own metric.

    If the term were in the gradient, AdamW would divide it by its running scale like everything else: however large
    mu is, a step would be about as long as the learning rate, and the client would leave theta^t. Instead, with
    P = sqrt(v) + eps the diagonal by which AdamW divides and z the result of its step, each step ends at

        argmin_y  mu/2 ||y - theta^t||^2 + 1/(2 lr) (y - z)^T P (y - z)  =  z + w (theta^t - z),
        w = lr mu / (P + lr mu).

    The fixed point is grad L_k + mu (theta - theta^t) = 0, as the objective demands. mu = 0 gives w = 0, which is
    FedAvg bit for bit; as mu goes to infinity, w goes to 1 and the client stays at theta^t.
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
