"""One round of Algorithm 1, from drawing the cohort to the new theta.

The federation, the canary audit and every experiment that trains use this function, so that the code that is audited
and measured is the code that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.federation import faults as simulation
from training.federation.client.training import Announcement
from training.federation.engine import Engine
from training.federation.methods.base import ServerRule, Theta
from training.federation.records import RoundEvents, record_of
from training.federation.server.checkpoint import Progress, RoundRecord
from training.federation.server.cohorts import draw_cohort, last_counted
from training.federation.server.opening import open_round
from training.federation.server.step import server_step
from training.federation.timing import Laps
from training.privacy.accounting.coins import Coins
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Rounds:
    """What all rounds of a federation have in common.

    `engine` trains the clients, `server` moves theta, `public_loss` validates theta on public people. `coins` draw the
    cohorts, `seed` everything that is simulated. `sends`: whether clients send updates. `promise` is what each record
    says about the mechanism beside its noise (see `training.privacy.accounting.promise`). `before_opening` is called
    before a round's sum is opened, with the round's number, the attempt (from 1) and the cohort.
    """

    engine: Engine
    server: ServerRule
    clients: Sequence[str]
    settings: TrainingSettings
    public_loss: Callable[[Theta], float]
    coins: Coins
    seed: int
    sends: bool = True
    promise: Mapping[str, Any] = field(default_factory=dict)
    before_opening: Callable[[int, int, list[str]], None] = lambda number, attempt, cohort: None


def play_round(rounds: Rounds, progress: Progress, lost: Sequence[list[str]] = ()) -> tuple[RoundRecord, RoundEvents]:
    """Play the round after `progress`, without changing it; return the server's record of the round, and its events.

    `lost` holds the cohorts of earlier attempts at this round whose sums may have been opened.
    """
    settings, federation, server, clients = rounds.settings, rounds.settings.federation, rounds.server, rounds.clients
    records, number, laps = progress.records, len(progress.records) + 1, Laps()

    # Step 1: the server samples the cohort S_t and announces theta^t and the clipping norm C.
    attempt, cap = len(lost) + 1, settings.privacy.max_participation
    cohort = draw_cohort(clients, federation, cap, records, rounds.coins, lost)
    aggregator = open_round(settings, len(cohort), len(clients), records, rounds.seed)
    shared, counted = server.announce(progress.state), last_counted(cohort, records)
    announced = Announcement(number, progress.theta, shared, counted, aggregator.mechanism.clip_norm)

    # Step 2: each client trains from theta^t, evaluates (s_k, n_k), clips, weighs, adds its noise share and masks.
    # Step 4: clients drop out at any point of step 2; the round goes on with those that remain.
    fates = simulation.fates(cohort, federation.availability, rounds.seed, number)
    present = [client for client in cohort if not fates[client].lost]
    struck = simulation.faulty(present, federation.faults, rounds.seed, number)
    updates = simulation.train(rounds.engine, present, announced, struck, progress.earlier)
    laps.lap("local")
    contributions = {
        client: simulation.sent(aggregator.contribute(client, update, number), struck.get(client))
        for client, update in updates.items()
    }
    laps.lap("protection")

    # Step 3: the server opens only the sum and checks it, moves theta with rate eta and validates, or leaves theta.
    rounds.before_opening(number, attempt, cohort)
    silent = simulation.silent(fates)
    step = server_step(server, progress, aggregator, contributions, silent, len(clients), rounds.public_loss, laps)

    events = RoundEvents(announced, cohort, aggregator, fates, struck, updates, contributions, step, laps.seconds)
    used = {
        **rounds.promise,
        "noise_deviation": aggregator.mechanism.deviation,
        "secret_cohorts": rounds.coins.key is not None,
    }
    return record_of(events, used, lost, rounds.sends), events
