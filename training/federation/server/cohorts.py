"""Drawing the cohort of a round, and who took part in earlier ones. `training.claims.account` accounts for these draws.

fixed    clients_per_round of all clients, without replacement: cohorts of constant size, as in the paper.
poisson  each client independently with probability q = clients_per_round / N: far smaller epsilon for the same noise,
         but cohorts vary in size and may be empty. Choose it wherever the guarantee matters.
allocation  each client in one round of every block of N / clients_per_round rounds, drawn independently of the others:
         every client takes part equally often, and under central noise epsilon is smaller still.

Under a guarantee the draws come from a secret key, and only the coordinator may know who was drawn: see
`training.privacy.accounting.coins`.

A client that has taken part `privacy.max_participation` times sits out when it is drawn. Nobody takes its place, since
that would raise the other clients' sampling rate above the one that is accounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.errors import PrivFedTalkError
from training.federation.server.checkpoint import RoundRecord
from training.privacy.accounting.coins import Coins
from training.privacy.accounting.schedule import block_length
from training.settings import FederationSettings


def draw_cohort(
    clients: Sequence[str],
    settings: FederationSettings,
    cap: int | None,
    records: Sequence[RoundRecord],
    coins: Coins,
    lost: Sequence[Sequence[str]] = (),
) -> list[str]:
    """The cohort of the round after `records`, in the order of `clients`; raises PrivFedTalkError if every client has
    reached the cap. `lost` holds the cohorts of sums that may have been opened before an interruption lost their
    records.
    """
    rested = may_take_part(clients, cap, records, lost)
    drawn = sample_clients(clients, settings, coins, len(records) + 1, len(lost) + 1)
    return [client for client in drawn if client in rested]


def sample_clients(
    clients: Sequence[str], settings: FederationSettings, coins: Coins, number: int, attempt: int = 1
) -> list[str]:
    """All clients, or those that are drawn for an attempt at round `number`; both are counted from one."""
    if takes_everybody(len(clients), settings):
        return list(clients)
    per_round = expected_cohort(len(clients), settings)
    if settings.sampling == "allocation":
        length = block_length(len(clients), per_round)
        block, place = divmod(number - 1, length)
        places = coins.of_block(block).integers(length, size=len(clients))
        return [client for client, its in zip(clients, places, strict=True) if its == place]
    rng = coins.of_round(number, attempt)
    if settings.sampling == "poisson":
        drawn = rng.random(len(clients)) < per_round / len(clients)
        return [client for client, is_in in zip(clients, drawn, strict=True) if is_in]
    return [clients[i] for i in sorted(rng.choice(len(clients), per_round, replace=False))]


def takes_everybody(population: int, settings: FederationSettings) -> bool:
    return settings.clients_per_round is None or settings.clients_per_round >= population


def expected_cohort(population: int, settings: FederationSettings) -> int:
    """m: the number of clients in a round, under Poisson sampling on average, under allocation at most on average."""
    return population if settings.clients_per_round is None else min(settings.clients_per_round, population)


def may_take_part(
    clients: Sequence[str], cap: int | None, records: Sequence[RoundRecord], lost: Sequence[Sequence[str]] = ()
) -> set[str]:
    """Clients whose updates were in fewer than `cap` opened sums; raises PrivFedTalkError if there are none."""
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
    """Client → rounds whose opened sums contained its update; the client checks the next round's terms against them."""
    rounds: dict[str, list[int]] = {}
    for record in records:
        for client in record.returned if record.opened else ():
            rounds.setdefault(client, []).append(record.round)
    return rounds


def participation(records: Sequence[RoundRecord]) -> Counter[str]:
    """The number of opened sums that contained each client's update.

    Rounds that were rolled back count, since their sums were seen. So do attempts that were interrupted when their sums
    were about to be opened, since they may have been seen.
    """
    counts = Counter(client for record in records if record.opened for client in record.returned)
    for record in records:
        for cohort in record.reopened:
            counts.update(cohort)
    return counts


def last_counted(clients: Sequence[str], records: Sequence[RoundRecord]) -> dict[str, int]:
    """The last round in which each client's update entered theta; clients without such a round are left out."""
    last = {client: record.round for record in records if record.applied for client in record.returned}
    return {client: last[client] for client in clients if client in last}
