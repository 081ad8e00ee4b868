"""A round's line of `rounds.jsonl`: the record that the server sees, and the simulation's log beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.federation.client.training import Announcement, LocalUpdate
from training.federation.faults import NEVER_THERE, Fate
from training.federation.server.aggregation import Aggregator, Contribution
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.step import Step
from training.privacy.mechanisms.release import update_norm
from training.settings.rounds import FaultSettings


@dataclass(frozen=True)
class RoundEvents:
    """Everything that happened in one simulated round; in a real federation no single party sees all of it."""

    announced: Announcement
    cohort: list[str]
    aggregator: Aggregator
    fates: Mapping[str, Fate]
    struck: Mapping[str, FaultSettings]
    updates: Mapping[str, LocalUpdate]
    contributions: Mapping[str, Contribution]
    step: Step
    seconds: dict[str, float]  # by phase


def record_of(
    events: RoundEvents, used: Mapping[str, Any], lost: Sequence[list[str]] = (), sends: bool = True
) -> RoundRecord:
    """The record of a round as the server sees it: without ε, signature and simulation log, which are added later.

    `used` describes the mechanism (see `RoundRecord.mechanism`), `lost` holds the cohorts of earlier attempts at the
    round; `sends` says whether clients send anything.
    """
    aggregator, step, aggregate = events.aggregator, events.step, events.step.aggregate
    total = aggregate.total if aggregate else None
    heard = total.clients if total else 0
    # Under Poisson sampling no published figure may depend on how many clients came.
    counted = aggregator.poisson.expected if aggregator.poisson else heard
    means = {name: value / counted for name, value in total.metrics.items()} if total and counted else {}
    return RoundRecord(
        round=events.announced.round,
        clients=list(events.cohort),
        survivors=heard,
        public_validation_loss=step.loss,
        weight_sum=total.weight if total else None,
        within_clip=total.within_clip / counted if total and counted else None,
        score_mean=means.get("score"),
        update_norm=float(np.linalg.norm(step.theta - events.announced.theta)),
        clip_norm=aggregator.mechanism.clip_norm,
        denominator=aggregator.denominator,
        bytes_up=aggregator.bytes_up if sends else 0,
        bytes_down=events.announced.nbytes * _reached(events.fates) + aggregator.bytes_down if sends else 0,
        seconds=events.seconds,
        vector_bytes=max((update.vector_bytes for update in events.updates.values()), default=0) if sends else 0,
        outcome=step.outcome,
        reason=step.reason,
        returned=aggregate.returned if aggregate else [],
        dropped=dropped(events.fates),
        metrics=means,
        reopened=list(lost),
        mechanism=dict(used),
        near_abort=aggregator.near_abort(heard),
    )


def _reached(fates: Mapping[str, Fate]) -> int:
    """The number of clients that received the announcement."""
    return sum(fate.lost != NEVER_THERE for fate in fates.values())


def dropped(fates: Mapping[str, Fate]) -> dict[str, str]:
    """For each client that dropped out, what the server waited for in vain; it does not learn the reason."""
    return {client: fate.silent_at or "update" for client, fate in fates.items() if fate.gone}


def simulation_log(events: RoundEvents) -> dict[str, Any]:
    """Figures that only a simulation can know.

    clients: each client's losses by term, clips, score, norm of the update, weight, seconds. losses: means by term.
    weights: least, mean and largest a_k. faults: kind of fault by client. lost: why clients dropped out.
    simulated_seconds: the time that each client's part would have taken.
    """
    fates, updates, contributions = events.fates, events.updates, events.contributions
    weights = [contributions[client].weight for client in updates]
    names = sorted({name for update in updates.values() for name in update.losses})
    return {
        "clients": {client: _client(update, contributions[client]) for client, update in updates.items()},
        "losses": {name: _mean([update.losses[name] for update in updates.values()]) for name in names},
        "weights": {"least": min(weights), "mean": _mean(weights), "most": max(weights)} if weights else {},
        "faults": {client: fault.kind for client, fault in events.struck.items()},
        "lost": {client: fate.lost or f"silent at {fate.silent_at}" for client, fate in fates.items() if fate.gone},
        "simulated_seconds": {client: round(fate.seconds, 1) for client, fate in fates.items()},
    }


def _client(update: LocalUpdate, contribution: Contribution) -> dict[str, float | None]:
    return {
        **{f"loss_{name}": _finite(value) for name, value in update.losses.items()},
        "clips": float(update.clips),
        "score": _finite(update.score),
        "update_norm": _finite(update_norm(update.delta)),
        "weight": contribution.weight,
        "seconds": update.seconds,
    }


def _mean(values: list[float]) -> float | None:
    return _finite(float(np.mean(values)))


def _finite(value: float) -> float | None:
    """The value, or None if it is not finite, since JSON has no NaN."""
    return float(value) if math.isfinite(value) else None
