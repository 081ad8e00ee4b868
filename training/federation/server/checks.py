"""What the server can check without seeing a single update: the opened sum, and the adapter that it leads to."""

from __future__ import annotations

import math

import numpy as np

from training.federation.methods.base import Theta
from training.federation.server.aggregation import Aggregator
from training.privacy.mechanisms.release import RoundSum
from training.privacy.mechanisms.skellam import rounding_bound
from training.settings.rounds import CheckSettings


def objection_to_sum(total: RoundSum, aggregator: Aggregator, settings: CheckSettings) -> str:
    """Why the sum cannot be of clipped updates and the agreed noise; empty where it can."""
    norm = float(np.linalg.norm(total.update))
    if not math.isfinite(norm):
        return "the sum is not finite"
    allowed = norm_allowed(total, aggregator)
    if settings.norm and norm > allowed:
        return f"the sum's norm {norm:.4g} is more than the {allowed:.4g} that clipping and noise allow"
    return ""


def norm_allowed(total: RoundSum, aggregator: Aggregator) -> float:
    """What clipping and noise allow, and rounding to the grid. Where each client is drawn by itself it does not depend
    on how many came: whether a round is taken back would tell."""
    m = aggregator.lottery.most if aggregator.lottery else total.clients
    rounding = rounding_bound(aggregator.clip_norm, aggregator.grid, total.update.size)
    # Without masks vectors travel as float32.
    return (aggregator.norm_bound(total) + m * rounding) * (1 + 1e-5)


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
