"""Who takes part in a round. What is drawn here is what `training.claims.account` accounts for.

fixed    clients_per_round of all clients, without replacement: cohorts of one size, as the paper has them.
poisson  each client by itself with rate q = clients_per_round / N: far less epsilon for the same noise, at the price
         of cohorts of changing size, an empty one now and then. Choose it wherever the guarantee matters.

Under a guarantee the draws come from a secret key and nobody but the coordinator may read who was drawn: see
`training.privacy.accounting.coins`.

A client that has taken part `privacy.max_participation` times sits out when it is drawn; nobody takes its place, for
that would raise the others' rate above what is accounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from common.errors import PrivFedTalkError
from training.federation.server.checkpoint import RoundRecord
from training.settings import FederationSettings


def draw_cohort(
    clients: Sequence[str],
    settings: FederationSettings,
    cap: int | None,
    records: Sequence[RoundRecord],
    rng: np.random.Generator,
    lost: Sequence[Sequence[str]] = (),
) -> list[str]:
    """A round's cohort, in the order of `clients`; an error where every client has reached its cap.

    `rng` is the round's own (see `training.privacy.accounting.coins`), `lost` the cohorts of sums that an interruption
    lost after they may have been opened.
    """
    rested = may_take_part(clients, cap, records, lost)
    return [client for client in sample_clients(clients, settings, rng) if client in rested]


def sample_clients(clients: Sequence[str], settings: FederationSettings, rng: np.random.Generator) -> list[str]:
    """Everybody, or those that the round's draw took."""
    if takes_everybody(len(clients), settings):
        return list(clients)
    per_round = expected_cohort(len(clients), settings)
    if settings.sampling == "poisson":
        drawn = rng.random(len(clients)) < per_round / len(clients)
        return [client for client, is_in in zip(clients, drawn, strict=True) if is_in]
    return [clients[i] for i in sorted(rng.choice(len(clients), per_round, replace=False))]


def takes_everybody(population: int, settings: FederationSettings) -> bool:
    return settings.clients_per_round is None or settings.clients_per_round >= population


def expected_cohort(population: int, settings: FederationSettings) -> int:
    """m = q N: how many clients a round has, or has on average."""
    return population if settings.clients_per_round is None else min(settings.clients_per_round, population)


def may_take_part(
    clients: Sequence[str], cap: int | None, records: Sequence[RoundRecord], lost: Sequence[Sequence[str]] = ()
) -> set[str]:
    """Clients whose updates were in fewer than `cap` opened sums; none left is an error."""
    counts = participation(records)
    for cohort in lost:
        counts.update(cohort)
    rested = {client for client in clients if cap is None or counts[client] < cap}
    if not rested:
        raise PrivFedTalkError(
            f"after {len(records)} rounds every client has taken part {cap} times, which is the cap",
            "lower federation.rounds or federation.clients_per_round, or raise privacy.max_participation",
        )
    return rested


def rounds_taken_part(records: Sequence[RoundRecord]) -> dict[str, list[int]]:
    """Client → numbers of the rounds whose opened sums it was in: what it holds the next round's terms against."""
    rounds: dict[str, list[int]] = {}
    for record in records:
        for client in record.returned if record.opened else ():
            rounds.setdefault(client, []).append(record.round)
    return rounds


def participation(records: Sequence[RoundRecord]) -> Counter[str]:
    """How many opened sums each client was in: rounds that were rolled back were seen too, and so, as far as anybody
    can tell, were those that an interruption lost when they were about to be opened."""
    counts = Counter(client for record in records if record.opened for client in record.returned)
    for record in records:
        for cohort in record.reopened:
            counts.update(cohort)
    return counts


def last_counted(clients: Sequence[str], records: Sequence[RoundRecord]) -> dict[str, int]:
    """For each client, the last round in which its update entered theta; clients without one are left out."""
    last = {client: record.round for record in records if record.applied for client in record.returned}
    return {client: last[client] for client in clients if client in last}
