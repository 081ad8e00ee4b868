"""Algorithm 1: rounds of local training and protected aggregation, resumable after every round.

Each round draws its own randomness and shares no running generator with other rounds. Under a guarantee the draws come
from secret coins (see `training.privacy.accounting.coins`), otherwise from (seed, round, client), so that an
interrupted federation continues exactly as it would have without the interruption. The ledger notes each sum before it
is opened, because an interruption may lose the record of a sum that was already seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.errors import PrivFedTalkError
from common.folders import LEDGER
from training.adapters.factors import Factors
from training.federation import faults as simulation
from training.federation.engine import Engine
from training.federation.methods import named, server_of
from training.federation.methods.base import Theta
from training.federation.records import simulation_log
from training.federation.round import Rounds, play_round
from training.federation.server.checkpoint import (
    Progress,
    RoundRecord,
    begin_checkpoint,
    discard_checkpoint,
    load_checkpoint,
    resume_federation,
    save_checkpoint,
)
from training.federation.server.spending import (
    epsilon_so_far,
    next_round_fits,
    planned_schedule,
    promise_of,
    too_dear,
)
from training.privacy.accounting.coins import Coins
from training.privacy.accounting.ledger import Ledger
from training.privacy.accounting.promise import promise
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Start:
    """Where a federation begins: the untrained adapter, and the hash of its backbone.

    `factors` say where A and B lie in theta, for `adapter.averaging: fedex`.
    """

    theta: Theta
    base_sha256: str
    factors: Factors | None = None
    validation: str = ""
    """A digest of the clips on which `public_loss` is measured; with other clips the federation begins anew."""


@dataclass(frozen=True)
class FederationResult:
    """The adapter vector that is kept (see `federation.keep`) and the history of its rounds."""

    theta: Theta
    records: list[RoundRecord]
    round: int
    """The round after which theta was kept."""
    name: str = ""
    """The federation's name in the ledger."""


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
    """Run all rounds, or the rounds that an interrupted run in `folder` did not finish.

    `engine` trains the clients from `start` by `method`'s local rule; `settings` are those of the method (see
    `training.federation.methods.configure`). `public_loss` validates theta on public people. `folder` receives
    `rounds.jsonl` and `checkpoint/`. `on_round` is called with every record, those of an interrupted run included.
    `ledger` notes what is opened; by default it lies in `folder`. `people` are the persons whose clips are trained on,
    where one pooled trainer holds all clips; by default they are the clients. `anew` is called before the records of an
    earlier federation are deleted, and removes what that federation left outside of `folder`.
    A round that fails leaves theta and all states unchanged; if all rounds fail, PrivFedTalkError is raised. The round
    that would exceed `privacy.max_epsilon` is not begun, and the federation is then finished.
    """
    rule, federation = named(method), settings.federation
    server = server_of(method, settings, start.factors)
    simulation.check_faults(federation.faults, clients)
    reach = simulation.thetas_needed(federation.faults)
    fingerprint = _fingerprint(method, start, clients, settings, seed)
    ledger = ledger or Ledger(folder / LEDGER)
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
    # An attempt without a saved record may have been seen; draws from a seed open the same sum again.
    lost = ledger.lost(this.name, len(records) + 1) if promised else []

    def note_opening(number: int, attempt: int, cohort: list[str]) -> None:
        if promised:
            ledger.opens(this.name, number, attempt, cohort)

    rounds = Rounds(
        engine,
        server,
        clients,
        settings,
        public_loss,
        this.coins,
        seed,
        rule.federates,
        used,
        before_opening=note_opening,
    )
    for number in range(len(records) + 1, federation.rounds + 1):
        if not next_round_fits(settings, len(clients), records, len(lost), _trained(start, settings)):
            break
        record, events = play_round(rounds, progress, lost)
        # End of step 3: record the privacy spent, keep the best checkpoint by validation loss.
        release, towards_server = epsilon_so_far(settings, len(clients), [*records, record], len(progress.theta))
        record = replace(
            record, epsilon_release=release, epsilon_server=towards_server, simulation=simulation_log(events)
        )
        signature = ledger.key.sign(asdict(record), records[-1].signature if records else "")
        progress.advance(replace(record, signature=signature), events.step.theta, events.step.state, reach)
        save_checkpoint(folder, fingerprint, progress)
        if promised:
            ledger.closed(this.name, number, record.outcome, record.near_abort)
        lost = []
        on_round(records[-1])
    if not records:
        raise too_dear(settings)
    if not any(record.applied for record in records):
        raise PrivFedTalkError(
            f"none of the {len(records)} rounds of {method} moved the adapter; the last: {records[-1].reason}",
            "see rounds.jsonl in the method's folder; lower privacy.survivor_floor, or the chances of "
            "federation.availability and federation.faults",
        )
    if federation.keep == "last":
        return FederationResult(progress.theta, records, records[-1].round, this.name)
    return FederationResult(progress.best, records, progress.best_round, this.name)


def _trained(start: Start, settings: TrainingSettings) -> int:
    """The number of parameters that clients train: theta's length without the residual that `fedex` appends."""
    residual = start.factors.size if start.factors and settings.adapter.averaging == "fedex" else 0
    return len(start.theta) - residual


def _fingerprint(method: str, start: Start, clients: Sequence[str], settings: TrainingSettings, seed: int) -> str:
    """What a checkpoint must match to be continued; rounds, their limit, personalisation and `keep` may differ."""
    free = {"rounds": 1, "personalisation_steps": 0, "keep": "last"}
    federation = settings.federation.model_copy(update=free)
    privacy = settings.privacy.model_copy(update={"max_epsilon": None})
    same = settings.model_copy(update={"federation": federation, "privacy": privacy})
    parts = [same.fingerprint(), start.base_sha256, start.validation]
    return "-".join([method, *parts, str(seed), *clients])
