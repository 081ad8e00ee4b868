"""Algorithm 1: rounds of local training and protected aggregation, resumable after every round.

What is random is drawn from (seed, round, client), never from a running generator, so a federation that was
interrupted goes on exactly as it would have gone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preparation import seeding
from preparation.errors import PrivFedTalkError
from training.aggregation import Aggregator, Contribution, RoundOutcome, next_clip_norm, next_denominator
from training.checkpoint import RoundRecord, load_checkpoint, save_checkpoint
from training.client import Announcement, LocalUpdate
from training.execution import Engine
from training.methods import named
from training.methods.base import Theta
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Start:
    """Where a federation begins: the untrained adapter, and the hash of the backbone that it belongs to."""

    theta: Theta
    base_sha256: str


@dataclass(frozen=True)
class FederationResult:
    """The final adapter vector and the history of its rounds."""

    theta: Theta
    records: list[RoundRecord]


def run_federation(
    engine: Engine,
    method: str,
    start: Start,
    clients: Sequence[str],
    public_loss: Callable[[Theta], float],
    settings: TrainingSettings,
    folder: Path,
    seed: int,
    on_round: Callable[[RoundRecord], None] = lambda record: None,
) -> FederationResult:
    """Run all rounds, or those that an interrupted run in `folder` has left.

    `engine` trains the clients from `start` by `method`'s local rule, `settings` are those it runs under (see
    `training.methods.configure`); `public_loss` validates theta on public speakers; `folder` receives
    `rounds.jsonl` and `checkpoint/`; `on_round` is told of every round, those already done included.
    """
    sends, server = named(method).sends, named(method).server_rule(settings)
    rounds = settings.federation.rounds
    fingerprint = _fingerprint(method, start, clients, settings, seed)
    begun = load_checkpoint(folder, fingerprint)
    theta, state, records = begun or (start.theta, server.initial(start.theta), [])
    for record in records:
        on_round(record)
    for number in range(len(records) + 1, rounds + 1):
        started = time.perf_counter()

        # Step 1: the server samples clients and announces theta.
        eligible = may_take_part(clients, settings.privacy.max_participation, records)
        chosen = sample_clients(eligible, settings.federation.clients_per_round, seed, number)
        aggregator = open_round(settings, len(chosen), len(clients), records, seed)
        announced = Announcement(number, theta, server.announce(state), last_counted(chosen, records))

        # Step 2: each client trains, scores itself, clips, weighs, adds its noise share.
        updates = engine.train(chosen, announced)
        trained = time.perf_counter()
        contributions = {client: aggregator.contribute(client, update, number) for client, update in updates.items()}

        # Step 3: the server unmasks only the sum and applies it.
        aggregate = aggregator.combine(contributions, number)
        released = aggregator.released(aggregate, share=len(chosen) / len(clients))
        new_theta, state = server.step(theta, released, state)
        if not np.isfinite(new_theta).all():
            raise PrivFedTalkError(
                f"round {number} produced an adapter that is not finite, although every contribution was checked",
                "lower federation.server_rate or federation.learning_rate; the last good round is in the checkpoint",
            )
        aggregated = time.perf_counter()
        record = RoundRecord(
            round=number,
            clients=list(chosen),
            survivors=aggregate.total.clients,
            public_validation_loss=public_loss(new_theta),
            weight_sum=aggregate.total.weight,
            within_clip=aggregate.total.within_clip / aggregate.total.clients,
            score_mean=aggregate.total.metrics["score"] / aggregate.total.clients,
            update_norm=float(np.linalg.norm(new_theta - theta)),
            clip_norm=aggregator.clip_norm,
            denominator=aggregator.denominator,
            bytes_up=aggregate.bytes_up if sends else 0,
            bytes_down=_bytes(announced) * len(chosen) if sends else 0,
            seconds={
                "local": trained - started,
                "aggregation": aggregated - trained,
                "validation": time.perf_counter() - aggregated,
            },
            simulation={
                client: _known_to_simulation(update, contributions[client]) for client, update in updates.items()
            },
        )
        theta = new_theta
        records.append(record)
        save_checkpoint(folder, fingerprint, theta, state, records)
        on_round(record)
    return FederationResult(theta, records)


def open_round(
    settings: TrainingSettings, cohort: int, population: int, records: Sequence[RoundRecord], seed: int
) -> Aggregator:
    """The protocol of the next round, its clipping norm and denominator following from public past rounds."""
    past = [RoundOutcome(r.survivors, r.weight_sum, r.within_clip * r.survivors) for r in records]
    clip_norm = next_clip_norm(settings.privacy, past)
    denominator = next_denominator(settings.privacy, cohort, population, past)
    return Aggregator(settings.privacy, cohort, seed, clip_norm, denominator)


def may_take_part(clients: Sequence[str], cap: int | None, records: Sequence[RoundRecord]) -> list[str]:
    """Clients that have taken part in fewer than `cap` rounds; none left is an error."""
    counts = Counter(client for record in records for client in record.clients)
    eligible = [client for client in clients if cap is None or counts[client] < cap]
    if not eligible:
        raise PrivFedTalkError(
            f"after {len(records)} rounds every client has taken part {cap} times, which is the cap",
            "lower federation.rounds or federation.clients_per_round, or raise privacy.max_participation",
        )
    return eligible


def last_counted(clients: Sequence[str], records: Sequence[RoundRecord]) -> dict[str, int]:
    """For each client, the last round in which its update entered the sum; clients without one are left out."""
    last = {client: record.round for record in records for client in record.clients}
    return {client: last[client] for client in clients if client in last}


def sample_clients(clients: Sequence[str], per_round: int | None, seed: int, number: int) -> list[str]:
    """The cohort of a round: everybody, or `per_round` of them without replacement."""
    if per_round is None or per_round >= len(clients):
        return list(clients)
    chosen = seeding.generator(seed, "cohort", str(number)).choice(len(clients), per_round, replace=False)
    return [clients[i] for i in sorted(chosen)]


def _bytes(announced: Announcement) -> int:
    return announced.theta.nbytes + sum(value.nbytes for value in announced.shared.values())


def _known_to_simulation(update: LocalUpdate, contribution: Contribution) -> dict[str, float]:
    return {
        **{f"loss_{name}": value for name, value in update.losses.items()},
        "clips": float(update.clips),
        "score": update.score,
        "update_norm": float(np.linalg.norm(update.delta)),
        "weight": contribution.weight,
        "seconds": update.seconds,
    }


def _fingerprint(method: str, start: Start, clients: Sequence[str], settings: TrainingSettings, seed: int) -> str:
    """What a checkpoint must agree with to be continued; more rounds of the same run may follow."""
    federation = settings.federation.model_copy(update={"rounds": 1, "personalisation_steps": 0})
    parts = [settings.model_copy(update={"federation": federation}).fingerprint(), start.base_sha256]
    return "-".join([method, *parts, str(seed), *clients])
