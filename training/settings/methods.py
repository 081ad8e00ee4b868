"""Settings of single federated methods, beside those of the federation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Settings


class FedProxSettings(Settings):
    """Settings of `training.federation.methods.fedprox`."""

    mu: float = Field(0.01, ge=0, description="weight of the proximal term; 0 is FedAvg")


class ScaffoldSettings(Settings):
    """Settings of `training.federation.methods.scaffold`. Use `sgd` to run the paper's algorithm to the letter."""

    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="optimizer of the local steps; the other methods use adamw"
    )
    sgd_learning_rate: float = Field(
        0.1, gt=0, description="learning rate of `sgd`; adamw takes federation.learning_rate"
    )


class FedAdamSettings(Settings):
    """Settings of `training.federation.methods.fedadam`; the betas and tau are those of the paper's experiments."""

    learning_rate: float = Field(
        5e-3, gt=0, description="learning rate of the server (eta); federation.server_rate is not used"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the mean of the updates")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay of the mean of their squares")
    tau: float = Field(
        1e-3, gt=0, description="added to the denominator of the step: the smaller, the more alike all coordinates move"
    )
