"""The server's part of a round, Algorithm 1, step 3: open only the sum, check it, move theta, check theta."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from training.federation.methods.base import ServerRule, State, Theta
from training.federation.server.aggregation import Aggregate, Aggregator, Contribution
from training.federation.server.checkpoint import Outcome, Progress
from training.federation.server.checks import objection_to_sum, objection_to_theta
from training.federation.timing import Laps
from training.privacy.secure_aggregation.in_process import DropStage
from training.privacy.secure_aggregation.messages import RoundAbortedError


@dataclass(frozen=True)
class Step:
    """The result of a round: theta, the server's state and the public loss after it, and why theta did not move."""

    theta: Theta
    state: State
    loss: float
    outcome: Outcome = "applied"
    reason: str = ""
    aggregate: Aggregate | None = None


def server_step(
    server: ServerRule,
    progress: Progress,
    aggregator: Aggregator,
    contributions: Mapping[str, Contribution],
    silent: Mapping[DropStage, set[str]],
    population: int,
    public_loss: Callable[[Theta], float],
    laps: Laps,
) -> Step:
    """Open the round's sum and move theta by it. If too few clients are left or a check refuses, theta stays."""
    theta, state, number = progress.theta, progress.state, len(progress.records) + 1
    checks = server.settings.federation.checks

    @cache
    def loss_before() -> float:
        return progress.records[-1].public_validation_loss if progress.records else public_loss(theta)

    def stay(outcome: Outcome, reason: str, aggregate: Aggregate | None = None) -> Step:
        step = Step(theta, state, loss_before(), outcome, reason, aggregate)
        laps.lap("validation")
        return step

    try:
        aggregate = (
            aggregator.combine(contributions, number, silent)
            if aggregator.cohort
            else aggregator.noise_alone(len(theta), number)
        )
    except RoundAbortedError as abandoned:
        laps.lap("aggregation")
        return stay("aborted", f"{abandoned.left} clients left after {abandoned.stage}, {abandoned.needed} needed")
    if aggregate is None:
        return stay("empty", "nobody was drawn into this round")
    refused = objection_to_sum(aggregate.total, aggregator.mechanism, checks)
    if refused:
        return stay("rolled back", refused, aggregate)
    released = aggregator.released(aggregate, share=aggregator.cohort / population)
    new_theta, new_state = server.step(theta, released, state)
    laps.lap("aggregation")
    before = loss_before() if checks.worsening is not None else math.inf
    new_loss = public_loss(new_theta) if np.isfinite(new_theta).all() else math.nan
    refused = objection_to_theta(new_theta, new_loss, before, checks)
    if refused:
        return stay("rolled back", refused, aggregate)
    laps.lap("validation")
    return Step(new_theta, new_state, new_loss, aggregate=aggregate)
