"""Algorithm 1: rounds of local training and protected aggregation, resumable after every round.

What is random is drawn anew for each round, never from a running generator: under a guarantee from secret coins (see
`training.privacy.accounting.coins`), else from (seed, round, client), so that a federation that was interrupted goes on
exactly as it would have gone. Before a sum is opened the ledger says so: an interruption may lose its record, and what
was seen was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from common.errors import PrivFedTalkError
from training.adapters.factors import Factors
from training.federation import faults as simulation
from training.federation.client.training import Announcement
from training.federation.engine import Engine
from training.federation.methods import named, server_of
from training.federation.methods.base import ServerRule, State, Theta
from training.federation.records import Laps, dropped, simulation_log
from training.federation.server.aggregation import (
    Aggregate,
    Aggregator,
    Contribution,
    Lottery,
    RoundOutcome,
    next_clip_norm,
    next_denominator,
)
from training.federation.server.checkpoint import (
    Outcome,
    Progress,
    RoundRecord,
    begin_checkpoint,
    discard_checkpoint,
    load_checkpoint,
    resume_federation,
    save_checkpoint,
)
from training.federation.server.checks import objection_to_sum, objection_to_theta
from training.federation.server.cohorts import (
    draw_cohort,
    expected_cohort,
    last_counted,
    rounds_taken_part,
    takes_everybody,
)
from training.federation.server.spending import epsilon_so_far, planned_schedule, promise_of
from training.privacy.accounting.coins import Coins
from training.privacy.accounting.ledger import Ledger
from training.privacy.accounting.promise import promise
from training.privacy.secure_aggregation.in_process import DropStage
from training.privacy.secure_aggregation.messages import RoundAbortedError
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Start:
    """Where a federation begins: the untrained adapter, and the hash of the backbone that it belongs to.

    `factors` say where A and B lie in theta, for `adapter.averaging: fedex`.
    """

    theta: Theta
    base_sha256: str
    factors: Factors | None = None
    validation: str = ""
    """A digest of what `public_loss` is measured on: rounds compared on something else are begun anew."""


@dataclass(frozen=True)
class FederationResult:
    """The adapter vector that is kept (see `federation.keep`) and the history of its rounds."""

    theta: Theta
    records: list[RoundRecord]
    round: int
    """After which theta stood as it is kept."""
    name: str = ""
    """The federation's name in the ledger."""


@dataclass(frozen=True)
class Step:
    """What a round came to: theta and the server's state after it, its public loss, and why it did not move."""

    theta: Theta
    state: State
    loss: float
    outcome: Outcome = "applied"
    reason: str = ""
    aggregate: Aggregate | None = None


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
    ledger: Ledger | None = None,
    people: Sequence[str] | None = None,
    anew: Callable[[], None] = lambda: None,
) -> FederationResult:
    """Run all rounds, or those that an interrupted run in `folder` has left.

    `engine` trains the clients from `start` by `method`'s local rule, `settings` are those it runs under (see
    `training.federation.methods.configure`); `public_loss` validates theta on public people; `folder` receives
    `rounds.jsonl` and `checkpoint/`; `on_round` is told of every round, those already done included; `ledger` notes
    what is opened, by default one in `folder`; `people` are those whose clips one trainer has, where it has them all;
    `anew` is called before the records of an earlier federation go, to take away what it left outside of `folder`.
    A round that fails leaves theta and all states as they were; a federation whose rounds all fail is an error.
    """
    rule, federation = named(method), settings.federation
    sends = rule.sends and not rule.pooled  # where all clips lie in one place, nobody sends an update
    server = server_of(method, settings, start.factors)
    simulation.check_faults(federation.faults, clients)
    reach = simulation.thetas_needed(federation.faults)
    fingerprint = _fingerprint(method, start, clients, settings, seed)
    ledger = ledger or Ledger(folder / "ledger.jsonl")
    this = resume_federation(folder, fingerprint, seed)
    progress = load_checkpoint(folder, fingerprint) if this else None
    if this is None:
        anew()
        discard_checkpoint(folder)
        this = begin_checkpoint(folder, fingerprint, Coins.toss(settings.privacy, seed))
    progress = progress or Progress(start.theta, server.initial(start.theta), start.theta)
    records = progress.records
    people = clients if people is None else people
    used = promise(settings.privacy, planned_schedule(settings, len(people)), _trained(start, settings))
    promised, why = promise_of(method, settings)
    ledger.begins(this.name, method, people, {**used, "rounds": federation.rounds} if promised else None, why)
    for record in records:
        on_round(record)
    # An attempt of which no record was saved may have been seen; from a seed the same sum is opened again.
    lost = ledger.lost(this.name, len(records) + 1) if promised else []
    for number in range(len(records) + 1, federation.rounds + 1):
        laps, theta = Laps(), progress.theta

        # Step 1: the server samples clients and announces theta.
        draws, cap = this.coins.of_round(number, len(lost) + 1), settings.privacy.max_participation
        cohort = draw_cohort(clients, federation, cap, records, draws, lost)
        aggregator = open_round(settings, len(cohort), len(clients), records, seed)
        announced = Announcement(number, theta, server.announce(progress.state), last_counted(cohort, records))

        # Step 2: each client trains, scores itself, clips, weighs, adds its noise share. Some do not come that far.
        fates = simulation.fates(cohort, federation.availability, seed, number)
        reached = [client for client in cohort if fates[client].lost != simulation.NEVER_THERE]
        present = [client for client in reached if not fates[client].lost]
        struck = simulation.faulty(present, federation.faults, seed, number)
        updates = simulation.train(engine, present, announced, struck, progress.earlier)
        laps.lap("local")
        contributions = {
            client: simulation.sent(aggregator.contribute(client, update, number), struck.get(client))
            for client, update in updates.items()
        }
        laps.lap("protection")

        # Step 3: the server opens only the sum, checks it and moves, or stays where it was.
        if promised:
            ledger.opens(this.name, number, len(lost) + 1, cohort)
        step = server_step(
            server, progress, aggregator, contributions, simulation.silent(fates), len(clients), public_loss, laps
        )
        total = step.aggregate.total if step.aggregate else None
        heard = total.clients if total else 0
        counted = aggregator.lottery.expected if aggregator.lottery else heard
        record = RoundRecord(
            round=number,
            clients=list(cohort),
            survivors=heard,
            public_validation_loss=step.loss,
            weight_sum=total.weight if total else None,
            within_clip=total.within_clip / counted if total and counted else None,
            score_mean=total.metrics["score"] / counted if total and counted and "score" in total.metrics else None,
            update_norm=float(np.linalg.norm(step.theta - theta)),
            clip_norm=aggregator.clip_norm,
            denominator=aggregator.denominator,
            bytes_up=aggregator.bytes_up if sends else 0,
            bytes_down=_bytes(announced) * len(reached) + aggregator.bytes_down if sends else 0,
            seconds=laps.seconds,
            vector_bytes=max((update.vector_bytes for update in updates.values()), default=0) if sends else 0,
            outcome=step.outcome,
            reason=step.reason,
            returned=step.aggregate.returned if step.aggregate else [],
            dropped=dropped(fates),
            metrics={name: value / counted for name, value in total.metrics.items()} if total and counted else {},
            reopened=lost,
            mechanism={**used, "noise_deviation": aggregator.deviation, "secret_cohorts": this.coins.key is not None},
            near_abort=aggregator.near_abort(heard),
            simulation=simulation_log(fates, struck, updates, contributions),
        )
        release, towards_server = epsilon_so_far(settings, len(clients), [*records, record], len(theta))
        record = replace(record, epsilon_release=release, epsilon_server=towards_server)
        signature = ledger.key.sign(asdict(record), records[-1].signature if records else "")
        records.append(replace(record, signature=signature))
        progress.theta, progress.state = step.theta, step.state
        progress.earlier = [*progress.earlier, theta][-reach:] if reach else []
        if progress.best_round == number:
            progress.best = step.theta
        save_checkpoint(folder, fingerprint, progress)
        if promised:
            ledger.closed(this.name, number, record.outcome, record.near_abort)
        lost = []
        on_round(records[-1])
    if not any(record.applied for record in records):
        raise PrivFedTalkError(
            f"none of the {len(records)} rounds of {method} moved the adapter; the last: {records[-1].reason}",
            "see rounds.jsonl in the method's folder; lower privacy.survivor_floor, or the chances of "
            "federation.availability and federation.faults",
        )
    if federation.keep == "last":
        return FederationResult(progress.theta, records, records[-1].round, this.name)
    return FederationResult(progress.best, records, progress.best_round, this.name)


def open_round(
    settings: TrainingSettings, cohort: int, population: int, records: Sequence[RoundRecord], seed: int
) -> Aggregator:
    """The protocol of the next round, its clipping norm and denominator following from public past rounds."""
    lottery = lottery_of(settings, population)
    past = [
        RoundOutcome(r.weight_sum, r.within_clip)
        for r in records
        if r.applied and r.weight_sum is not None and r.within_clip is not None
    ]
    clip_norm = next_clip_norm(settings.privacy, past)
    expected = expected_cohort(population, settings.federation)
    denominator = next_denominator(settings.privacy, expected, population, past)
    before = rounds_taken_part(records)
    return Aggregator(settings.privacy, cohort, seed, clip_norm, denominator, lottery, taken_part=before)


def lottery_of(settings: TrainingSettings, population: int) -> Lottery | None:
    """The lottery that draws each client by itself; None where cohorts have a fixed size, or nothing is promised."""
    federation = settings.federation
    drawn = federation.sampling == "poisson" and not takes_everybody(population, federation)
    expected = float(expected_cohort(population, federation))
    return Lottery(population, expected) if drawn and settings.privacy.has_proof else None


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
    """Open the round's sum and move by it. Where too few are left, or a check refuses, nothing moves."""
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
    refused = objection_to_sum(aggregate.total, aggregator, checks)
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


def _bytes(announced: Announcement) -> int:
    return announced.theta.nbytes + sum(value.nbytes for value in announced.shared.values())


def _trained(start: Start, settings: TrainingSettings) -> int:
    """How many parameters clients train; theta has a residual beside them where `adapter.averaging` is fedex."""
    residual = start.factors.size if start.factors and settings.adapter.averaging == "fedex" else 0
    return len(start.theta) - residual


def _fingerprint(method: str, start: Start, clients: Sequence[str], settings: TrainingSettings, seed: int) -> str:
    """What a checkpoint must agree with to be continued; more rounds of the same run may follow."""
    free = {"rounds": 1, "personalisation_steps": 0, "keep": "last"}
    federation = settings.federation.model_copy(update=free)
    parts = [settings.model_copy(update={"federation": federation}).fingerprint(), start.base_sha256, start.validation]
    return "-".join([method, *parts, str(seed), *clients])
