"""Train one method on a run: read what `run_federation` needs from the run's folder, and write its results there."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from common.files import write_text
from common.folders import PRIVACY_TEXT, RunFolder
from preparation.clients.consent import objections
from preparation.clients.roles import ClientUnit, load_clients, unit_of
from training.adapters.membership import POOLED, save_participants
from training.adapters.origin import forget, made_by, remove_own_adapters, retire
from training.adapters.record import OWN_ADAPTER, OWN_ADAPTERS
from training.claims.account import account, ended_early, entries_of
from training.execution import Job, Pool, PooledEngine, open_pool, open_trainer
from training.execution.memory import within_budget
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.client.storage import ClientStorage
from training.federation.client.training import ClientTrainer
from training.federation.display import RoundDisplay
from training.federation.methods import configure, named
from training.federation.methods.base import Theta
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import expected_cohort, last_counted
from training.federation.server.spending import participation_figures
from training.learning.eligible import (
    able_clients,
    may_be_unmeasured,
    short_clients,
    trainable_clients,
    unable_clients,
    unmeasured_clients,
)
from training.learning.lending import with_public_people
from training.learning.public import digest_of, read_federation_validation
from training.learning.validation import validation_loss
from training.privacy.accounting.ledger import Ledger
from training.settings import TrainingSettings
from training.settings.rounds import AvailabilitySettings


def federate(
    run: RunFolder,
    method: str,
    settings: TrainingSettings,
    seed: int,
    resume: bool,
    workers: int = 1,
    pool: Pool | None = None,
    unit: ClientUnit | None = None,
    validated: bool = True,
    shown: bool = True,
) -> FederationResult:
    """Train one method's adapter over all clients of `run`; writes rounds, checkpoint, adapter and privacy report.

    `resume` continues after the last finished round of an interrupted run; without it the method starts anew.
    A method whose clients send nothing saves the untrained adapter as the shared one, and each client's own adapter in
    the client's folder. Clients train on `pool`; without one, a pool of `workers` is opened for this federation alone,
    so give a pool where several methods follow. `unit` says in the report what one client is; None takes it from the
    table of clients. Without `validated` no round is measured on public people (every public loss is 0), for
    experiments that choose no round by it. Without `shown` no round is printed to standard error.
    """
    assert validated or settings.federation.keep == "last", "only validation tells which round is the best"
    with contextlib.ExitStack() as stack:
        pool = pool or stack.enter_context(open_pool(settings.execution, workers))
        return _federate(run, method, configure(method, settings), seed, resume, pool, unit, validated, shown)


def _federate(
    run: RunFolder,
    method: str,
    settings: TrainingSettings,
    seed: int,
    resume: bool,
    pool: Pool,
    unit: ClientUnit | None,
    validated: bool,
    shown: bool,
) -> FederationResult:
    folder = run.federation(method)
    unmeasured = may_be_unmeasured(settings.federation)
    agreed = trainable_clients(run, settings.consent.required, unmeasured)
    short = short_clients(run, agreed, settings)
    clients = [client for client in agreed if client not in short]
    if not resume:
        forget(run, method)
    people, steps = clients, settings.federation.personalisation_steps
    storage = ClientStorage(run, method, required=settings.consent.required)
    if named(method).pooled:
        storage, settings = replace(storage, pool=tuple(clients)), pooled_steps(settings, len(people))
        clients = [POOLED]
    trainer = open_trainer(storage, settings, seed, pool.device)
    settings = within_budget(trainer, settings, folder)
    unscored = unmeasured_clients(run, people, settings)
    held_out = read_federation_validation(run, with_public_people(run, settings)) if validated else []
    adapter = trainer.adapter

    def public_loss(theta: Theta) -> float:
        if not validated:
            return 0.0
        adapter.load_vector(theta)
        return validation_loss(trainer.backbone, held_out, settings.objective, seed)

    def begin_anew() -> None:
        retire(run, method)
        refused = objections(run, able_clients(run, unmeasured), "training", settings.consent.required)
        save_participants(run, method, people, refused | short | unable_clients(run, unmeasured), unscored)

    start = Start(adapter.vector(), adapter.base_sha256, adapter.factors, validation=digest_of(held_out))
    engine = PooledEngine(pool, Job(storage, settings, seed))
    ledger = Ledger(run.ledger, run.client_ledger)
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(RoundDisplay(method, settings.federation.rounds)) if shown else _show_nothing
        result = run_federation(
            engine, method, start, clients, public_loss, settings, folder, seed, show, ledger, people, begin_anew
        )
    if named(method).sends and steps:
        engine.personalise(people, result.theta, steps)
    if named(method).sends and not steps:
        remove_own_adapters(run, method)  # an earlier run with personalisation may have left some
    own = {} if named(method).sends else save_own_adapters(trainer, clients, result)
    ledger.ended(result.name)
    unit = unit or unit_of(load_clients(run.clients_table))
    entries = entries_of(ledger, people, until=result.name)
    report = account(method, settings, len(people), result.records, len(adapter), entries, unit)
    for sentence in ended_early(settings, result.records):
        sys.stderr.write(f"{method}: {sentence}\n")
    trained = counts(people, settings)
    metadata = {"method": method, "privacy": report.mark, **trained, "round": str(result.round), **own}
    metadata |= made_by(result.name, result.theta)
    if named(method).pooled:
        metadata["federated"] = "no"
    figures = participation_figures(settings, len(people), result.records, len(adapter), result.name)
    write_text(run.privacy(method), json.dumps(report.to_json(), indent=1) + "\n")
    write_text(folder / PRIVACY_TEXT, report.to_markdown())
    write_text(run.participation(method), json.dumps(figures, indent=1) + "\n")
    adapter.save(run.adapter(method), result.theta, metadata)  # last: an adapter is never there without its reports
    return result


def _show_nothing(record: RoundRecord) -> None:
    """Print nothing."""


def counts(clients: Sequence[str], settings: TrainingSettings) -> dict[str, str]:
    """The counts saved in an adapter's record, all of them public.

    The number of clips is left out: an exact count would reveal how many clips a client holds, which no privacy budget
    covers. So is the number of rounds that counted, which depends on the cohorts that were drawn.
    """
    return {"clients": str(len(clients)), "rounds_planned": str(settings.federation.rounds)}


def pooled_steps(settings: TrainingSettings, clients: int) -> TrainingSettings:
    """Settings of a single trainer that takes, in each round, as many steps as a federated round's clients together.

    It therefore sees as many batches, and as many windows of clips, as the federated methods. Its clients never drop
    out and have no faults.
    """
    federation = settings.federation
    update = {
        "local_steps": federation.local_steps * expected_cohort(clients, federation),
        "clients_per_round": None,
        "availability": AvailabilitySettings(),
        "faults": (),
    }
    privacy = settings.privacy.model_copy(update={"max_participation": None})
    return settings.model_copy(update={"federation": federation.model_copy(update=update), "privacy": privacy})


def save_own_adapters(trainer: ClientTrainer, clients: Sequence[str], result: FederationResult) -> dict[str, str]:
    """Save the own adapter of each client that trained; return what the shared adapter's record says about them."""
    counted = last_counted(clients, result.records)
    for client, number in counted.items():
        theta = trainer.storage.load_state(client, number).get("theta")
        if theta is None:  # its training diverged in every round
            continue
        metadata = {
            "method": trainer.storage.method,
            "client": client,
            "privacy": OWN_ADAPTER,
            "federation": result.name,
        }
        trainer.adapter.save(trainer.storage.adapter(client), theta, metadata)
    return {"own_adapters": OWN_ADAPTERS}
