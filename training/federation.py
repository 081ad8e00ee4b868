"""Algorithm 1: rounds of local training and protected aggregation, resumable after every round.

What is random is drawn from (seed, round, client), never from a running generator, so a federation that was
interrupted goes on exactly as it would have gone.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from preparation import seeding
from preparation.errors import PrivFedTalkError
from training.aggregation import Aggregator, Contribution, RoundOutcome, next_clip_norm, next_denominator
from training.client import LocalUpdate
from training.execution import Engine
from training.settings import TrainingSettings

Theta = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RoundRecord:
    """One line of `rounds.jsonl`. `simulation` holds what only a simulation can know; no server ever sees it."""

    round: int
    clients: list[str]
    survivors: int
    public_validation_loss: float
    weight_sum: float
    within_clip: float
    score_mean: float
    update_norm: float
    clip_norm: float
    denominator: float
    bytes_up: int
    bytes_down: int
    seconds: dict[str, float]
    simulation: dict[str, dict[str, float]] = field(default_factory=dict)


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
    start: Start,
    clients: Sequence[str],
    public_loss: Callable[[Theta], float],
    settings: TrainingSettings,
    folder: Path,
    seed: int,
    on_round: Callable[[RoundRecord], None] = lambda record: None,
) -> FederationResult:
    """Run all rounds, or those that an interrupted run in `folder` has left.

    `engine` trains the clients from `start`; `public_loss` validates theta on public speakers; `folder` receives
    `rounds.jsonl` and `checkpoint/`; `on_round` is told of every round, those already done included.
    """
    rounds = settings.federation.rounds
    fingerprint = _fingerprint(start, clients, settings, seed)
    theta, records = _resume(folder, fingerprint) or (start.theta, [])
    for record in records:
        on_round(record)
    for number in range(len(records) + 1, rounds + 1):
        started = time.perf_counter()

        # Step 1: the server samples clients and announces theta.
        eligible = may_take_part(clients, settings.privacy.max_participation, records)
        chosen = sample_clients(eligible, settings.federation.clients_per_round, seed, number)
        aggregator = open_round(settings, len(chosen), len(clients), records, seed)

        # Step 2: each client trains, scores itself, clips, weighs, adds its noise share.
        updates = engine.train(chosen, theta, number)
        trained = time.perf_counter()
        contributions = {client: aggregator.contribute(client, update, number) for client, update in updates.items()}

        # Step 3: the server unmasks only the sum and applies it.
        aggregate = aggregator.combine(contributions, number)
        new_theta = aggregator.step(theta, aggregate, settings.federation.server_rate)
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
            bytes_up=aggregate.bytes_up,
            bytes_down=theta.nbytes * len(chosen),
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
        _save(folder, fingerprint, theta, records)
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


def sample_clients(clients: Sequence[str], per_round: int | None, seed: int, number: int) -> list[str]:
    """The cohort of a round: everybody, or `per_round` of them without replacement."""
    if per_round is None or per_round >= len(clients):
        return list(clients)
    chosen = seeding.generator(seed, "cohort", str(number)).choice(len(clients), per_round, replace=False)
    return [clients[i] for i in sorted(chosen)]


def _known_to_simulation(update: LocalUpdate, contribution: Contribution) -> dict[str, float]:
    return {
        **{f"loss_{name}": value for name, value in update.losses.items()},
        "clips": float(update.clips),
        "score": update.score,
        "update_norm": float(np.linalg.norm(update.delta)),
        "weight": contribution.weight,
        "seconds": update.seconds,
    }


def _fingerprint(start: Start, clients: Sequence[str], settings: TrainingSettings, seed: int) -> str:
    """What a checkpoint must agree with to be continued; more rounds of the same run may follow."""
    federation = settings.federation.model_copy(update={"rounds": 1})
    parts = [settings.model_copy(update={"federation": federation}).fingerprint(), start.base_sha256]
    return "-".join([*parts, str(seed), *clients])


def _save(folder: Path, fingerprint: str, theta: Theta, records: Sequence[RoundRecord]) -> None:
    """Write the checkpoint; the state file is replaced last, so that a killed run finds the round before."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    number = records[-1].round
    save_file({"theta": theta}, checkpoint / f"theta-{number:05d}.safetensors")
    rows = [asdict(record) for record in records]
    _replace(folder / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _replace(checkpoint / "state.json", json.dumps({"fingerprint": fingerprint, "round": number}))
    for old in checkpoint.glob("theta-*.safetensors"):
        if old.name != f"theta-{number:05d}.safetensors":
            old.unlink()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    os.replace(temporary, path)  # noqa: PTH105  Path.replace is the same; os.replace says that it is atomic


def _resume(folder: Path, fingerprint: str) -> tuple[Theta, list[RoundRecord]] | None:
    """Theta and records of a run with the same fingerprint, or None to begin anew."""
    state_file = folder / "checkpoint" / "state.json"
    if not state_file.exists():
        return None
    state = json.loads(state_file.read_text())
    if state["fingerprint"] != fingerprint:
        return None
    number = state["round"]
    theta = load_file(folder / "checkpoint" / f"theta-{number:05d}.safetensors")["theta"]
    lines = (folder / "rounds.jsonl").read_text().splitlines()[:number]
    return theta, [RoundRecord(**json.loads(line)) for line in lines]
