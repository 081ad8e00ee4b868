"""Checks that the server makes without seeing a single update: of the opened sum, and of the adapter it leads to."""

from __future__ import annotations

import math

import numpy as np

from training.federation.methods.base import Theta
from training.privacy.mechanisms.base import Mechanism
from training.privacy.mechanisms.grid import rounding_bound
from training.privacy.mechanisms.release import RoundSum
from training.settings.rounds import CheckSettings


def objection_to_sum(total: RoundSum, mechanism: Mechanism, settings: CheckSettings) -> str:
    """Why the sum cannot consist of clipped updates and the agreed noise; empty if it can."""
    norm = float(np.linalg.norm(total.update))
    if not math.isfinite(norm):
        return "the sum is not finite"
    allowed = norm_allowed(total, mechanism)
    if settings.norm and norm > allowed:
        return f"the sum's norm {norm:.4g} is more than the {allowed:.4g} that clipping and noise allow"
    return ""


def norm_allowed(total: RoundSum, mechanism: Mechanism) -> float:
    """The largest norm that clipping, noise and rounding to the grid allow.

    Under Poisson sampling the bound does not depend on how many clients came, since a round that is rolled back would
    reveal it.
    """
    m = mechanism.poisson.most if mechanism.poisson else total.clients
    rounding = rounding_bound(mechanism.clip_norm, mechanism.grid, total.update.size)
    # Without masks vectors travel as float32, hence the tolerance.
    return (mechanism.norm_bound(total) + m * rounding) * (1 + 1e-5)


def objection_to_theta(theta: Theta, loss: float, loss_before: float, settings: CheckSettings) -> str:
    """Why the new adapter is refused; empty if it is accepted. Losses are on public speakers."""
    if not np.isfinite(theta).all():
        return "the adapter is not finite"
    if not math.isfinite(loss):
        return "the adapter's loss on public speakers is not finite"
    if settings.worsening is not None and loss > loss_before * (1 + settings.worsening):
        return (
            f"the loss on public speakers rose from {loss_before:.4f} to {loss:.4f}, "
            f"more than the {settings.worsening:.0%} allowed"
        )
    return ""
