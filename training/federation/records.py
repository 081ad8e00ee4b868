"""How a round becomes one line of `rounds.jsonl`, and what of it only the simulation's log may hold."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from training.federation.client.training import LocalUpdate
from training.federation.faults import Fate
from training.federation.server.aggregation import Contribution
from training.privacy.mechanisms.release import update_norm
from training.settings.rounds import FaultSettings


class Laps:
    """Seconds by phase of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What has passed since the last lap was spent on `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


def dropped(fates: Mapping[str, Fate]) -> dict[str, str]:
    """As the server sees it: for whom it waited in vain, and for what. Why is not its to know."""
    return {client: fate.silent_at or "update" for client, fate in fates.items() if fate.gone}


def simulation_log(
    fates: Mapping[str, Fate],
    struck: Mapping[str, FaultSettings],
    updates: Mapping[str, LocalUpdate],
    contributions: Mapping[str, Contribution],
) -> dict[str, Any]:
    """What only a simulation can know.

    clients: each one's losses by term, clips, score, update's norm, weight, seconds. losses: their means by term.
    weights: how far the a_k spread. faults: whom the simulation struck with what. lost: why clients went missing.
    simulated_seconds: what each one's part would have taken.
    """
    weights = [contributions[client].weight for client in updates]
    names = sorted({name for update in updates.values() for name in update.losses})
    return {
        "clients": {client: _client(update, contributions[client]) for client, update in updates.items()},
        "losses": {name: _mean([update.losses[name] for update in updates.values()]) for name in names},
        "weights": {"least": min(weights), "mean": _mean(weights), "most": max(weights)} if weights else {},
        "faults": {client: fault.kind for client, fault in struck.items()},
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
