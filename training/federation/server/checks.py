"""What the server can check without seeing a single update: the opened sum, and the adapter that it leads to."""

from __future__ import annotations

import math

import numpy as np

from training.federation.methods.base import Theta
from training.privacy.mechanisms.base import Mechanism
from training.privacy.mechanisms.grid import rounding_bound
from training.privacy.mechanisms.release import RoundSum
from training.settings.rounds import CheckSettings


def objection_to_sum(total: RoundSum, mechanism: Mechanism, settings: CheckSettings) -> str:
    """Why the sum cannot be of clipped updates and the agreed noise; empty where it can."""
    norm = float(np.linalg.norm(total.update))
    if not math.isfinite(norm):
        return "the sum is not finite"
    allowed = norm_allowed(total, mechanism)
    if settings.norm and norm > allowed:
        return f"the sum's norm {norm:.4g} is more than the {allowed:.4g} that clipping and noise allow"
    return ""


def norm_allowed(total: RoundSum, mechanism: Mechanism) -> float:
    """What clipping and noise allow, and rounding to the grid. Where each client is drawn by itself it does not depend
    on how many came: whether a round is taken back would tell."""
    m = mechanism.poisson.most if mechanism.poisson else total.clients
    rounding = rounding_bound(mechanism.clip_norm, mechanism.grid, total.update.size)
    # Without masks vectors travel as float32.
    return (mechanism.norm_bound(total) + m * rounding) * (1 + 1e-5)


def objection_to_theta(theta: Theta, loss: float, loss_before: float, settings: CheckSettings) -> str:
    """Why the new adapter is worse than none; empty where it is not. Losses are on public speakers."""
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
