"""How a round becomes one line of `rounds.jsonl`, and what of it only the simulation's log may hold."""

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
    """All that happened in one round, by client where it is about clients; no single party of a real one sees it."""

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
    """A round's line of `rounds.jsonl` as the server sees it: without its ε, its signature and the simulation's log.

    `used` is what the round used (see `RoundRecord.mechanism`), `lost` the cohorts of earlier attempts at it; `sends`
    says whether anything travels.
    """
    aggregator, step, aggregate = events.aggregator, events.step, events.step.aggregate
    total = aggregate.total if aggregate else None
    heard = total.clients if total else 0
    # Under Poisson sampling no figure of a sum may follow the number of those who came.
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
    """How many clients got the announcement."""
    return sum(fate.lost != NEVER_THERE for fate in fates.values())


def dropped(fates: Mapping[str, Fate]) -> dict[str, str]:
    """As the server sees it: for whom it waited in vain, and for what. Why is not its to know."""
    return {client: fate.silent_at or "update" for client, fate in fates.items() if fate.gone}


def simulation_log(events: RoundEvents) -> dict[str, Any]:
    """What only a simulation can know.

    clients: each one's losses by term, clips, score, update's norm, weight, seconds. losses: their means by term.
    weights: how far the a_k spread. faults: whom the simulation struck with what. lost: why clients went missing.
    simulated_seconds: what each one's part would have taken.
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
    """JSON has no NaN; None stands for what is not a number."""
    return float(value) if math.isfinite(value) else None
