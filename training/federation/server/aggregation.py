"""One round's sum: the clients' contributions, the sum over the clients that remain, and what the server reads from it.

A client turns its update into one vector (`contribute`). The sum is formed under secure aggregation or in clear
(`combine`). The server sees only that sum and what follows from it (`released`); the method's server rule turns it into
theta. The mechanism decides how updates are clipped and noised and how the sum is read: see
`training.privacy.mechanisms`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import PrivFedTalkError
from training.federation.client.training import LocalUpdate
from training.federation.methods.base import Released, State
from training.privacy.mechanisms.factory import mechanism_for
from training.privacy.mechanisms.poisson_sampling import PoissonSampling
from training.privacy.mechanisms.release import RoundSum
from training.privacy.secure_aggregation.in_process import DropStage, Traffic, aggregate_in_process
from training.privacy.secure_aggregation.messages import RoundAbortedError
from training.settings.privacy import PrivacySettings

BEFORE_THE_VECTOR: tuple[DropStage, ...] = ("advertise", "share_keys", "masked_input")
"""A client that falls silent at one of these stages is not in the sum; at a later stage its vector has arrived."""
LEAST_WEIGHT = 1e-6
"""If the sum of weights is smaller, all updates had weight zero, and the round is abandoned."""


@dataclass(frozen=True)
class Contribution:
    """What a client gives to the protocol: ring elements with its noise share, or plain floats without masks.

    `weight` is a_k; it stays with the client (a simulation's log may show it, the server never sees it). `extra`
    travels unmasked beside the vector, times the weight, in methods without a privacy guarantee.
    """

    vector: npt.NDArray[Any]
    weight: float
    extra: State = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """The server's view of a round: the opened sum, and the clients whose vectors are in it."""

    total: RoundSum
    returned: list[str]
    extra: State = field(default_factory=dict)  # weighted means
    each: Sequence[tuple[float, npt.NDArray[np.floating]]] = ()  # see `Released.each`


class Aggregator:
    """Both ends of one round's protocol, with the round's mechanism. `denominator` is its public divisor D.

    `cohort` is the number of sampled clients, which decides the floor of survivors and the mechanism's noise shares.
    `poisson` is given if clients are drawn independently under a guarantee. Clients check the round's terms against
    `run_id` and `taken_part` (client → earlier rounds in which it sent its vector); None: a run of its own, and its
    first round.
    """

    def __init__(
        self,
        settings: PrivacySettings,
        cohort: int,
        seed: int,
        clip_norm: float,
        denominator: float,
        poisson: PoissonSampling | None = None,
        *,
        run_id: str | None = None,
        taken_part: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        if settings.secure_aggregation and not poisson and 2 <= cohort <= settings.tolerated_colluders:
            raise PrivFedTalkError(
                f"privacy.tolerated_colluders is {settings.tolerated_colluders} in a cohort of {cohort}",
                f"tolerate at most {cohort - 1} colluders, or take more than {settings.tolerated_colluders} clients "
                "into a round (federation.clients_per_round)",
            )
        self.settings, self.cohort, self.poisson = settings, cohort, poisson
        self.run_id, self.taken_part, self.denominator = run_id, taken_part, denominator
        self.mechanism = mechanism_for(settings, cohort, clip_norm, seed, poisson)
        self.survivors = settings.minimum_survivors(max(cohort, 1))
        self.traffic: dict[str, Traffic] = {}
        self._answered: tuple[int, int] | None = None  # (clients that finished the protocol, clients that began it)

    @property
    def bytes_up(self) -> int:
        """Bytes that clients have sent so far, also in a round that was abandoned."""
        return sum(each.up for each in self.traffic.values())

    @property
    def bytes_down(self) -> int:
        """Bytes of keys and shares that the protocol has sent to clients so far; the announcement is not included."""
        return sum(each.down for each in self.traffic.values())

    def near_abort(self, survivors: int) -> bool:
        """Whether the sum over `survivors` vectors opened, but would not have with one of those clients not drawn.

        Such a sum reveals that each of its clients was drawn, so amplification by sampling does not hold for it. It
        holds for all other sums. Proof. Fix all clients but x, which is drawn with probability q and, if drawn, drops
        out with probability p. If the sum opens both with x and without, an opened sum contains x with probability
        q(1 − p)/(1 − qp) ≤ q, under the same noise. An abandoned round contains nobody, and is as likely to be
        abandoned whatever x sent. ∎ If nobody drops out, cohorts of any size open.
        """
        settings, one_less = self.settings, max(self.cohort - 1, 0)
        if not self.poisson or survivors < self.survivors or not one_less:
            return False
        few_vectors = survivors - 1 < settings.minimum_survivors(one_less)
        answered, roster = self._answered or (survivors, survivors)
        return few_vectors or (roster > 1 and answered - 1 < settings.share_threshold(roster - 1))

    def contribute(self, client: str, update: LocalUpdate, round_number: int) -> Contribution:
        """On the client: the mechanism clips and weighs the update and, if clients add noise, adds this client's share.

        An update that is not finite gets weight zero, and so does what the method sends beside it.
        """
        vector, weight = self.mechanism.protect(update, client, round_number)
        assert not (self.settings.secure_aggregation and update.extra), "only the protected vector is masked"
        return Contribution(vector, weight, {name: _weighted(value, weight) for name, value in update.extra.items()})

    def combine(
        self,
        contributions: Mapping[str, Contribution],
        round_number: int,
        drop: Mapping[DropStage, Set[str]] | None = None,
    ) -> Aggregate:
        """Form the sum, under secure aggregation if it is on, and read the scalars from it.

        `drop` holds the clients that fall silent, by stage of the upload. Raises RoundAbortedError if fewer clients
        are left than the floor of survivors; without masks the same floor holds, so that methods can be compared round
        by round. A cohort of one, which Poisson sampling may draw, is protected by noise alone; its share of the noise
        is then the whole noise.
        """
        settings, drop = self.settings, drop or {}
        if len(contributions) < self.survivors:
            raise RoundAbortedError("training", len(contributions), self.survivors)
        total, returned = (
            self._masked_sum(contributions, round_number, drop)
            if settings.secure_aggregation and len(contributions) > 1
            else self._sum_in_clear(contributions, drop)
        )
        total = self.mechanism.add_noise(total, round_number, len(returned))
        summed = self.mechanism.read_sum(total, len(returned))
        if not settings.has_proof and summed.weight < LEAST_WEIGHT:
            raise RoundAbortedError("aggregation", 0, 1)
        there = [contributions[client] for client in returned]
        extra = _weighted_means([one.extra for one in there], summed.weight)
        each = [(one.weight, one.vector[: summed.update.size]) for one in there] if self.mechanism.shows_parts() else ()
        return Aggregate(summed, returned, extra, each)

    def noise_alone(self, dimension: int, round_number: int) -> Aggregate | None:
        """The noisy sum of an empty cohort, which the theorem of Poisson sampling requires to be released as well.

        Releasing nothing would reveal that nobody was drawn. The server adds the noise itself, in every mode, since it
        knows that the cohort is empty. None if there is no guarantee, hence no noise.
        """
        if not self.settings.has_proof:
            return None
        nothing = np.zeros(dimension + self.settings.scalars)
        return Aggregate(self.mechanism.read_sum(self.mechanism.add_noise(nothing, round_number, 0), 0), [])

    def released(self, aggregate: Aggregate, share: float) -> Released:
        """What the server's step may use; `share` is the cohort's share of all clients."""
        total = aggregate.total
        divisor = self.mechanism.divisor(self.denominator, total)
        return Released(total.update, divisor, aggregate.extra, share, aggregate.each)

    def _masked_sum(
        self, contributions: Mapping[str, Contribution], round_number: int, drop: Mapping[DropStage, Set[str]]
    ) -> tuple[npt.NDArray[np.float64], list[str]]:
        """The sum that the protocol opens, and the clients whose vectors are in it."""
        opened = aggregate_in_process(
            {client: contribution.vector for client, contribution in contributions.items()},
            self.settings.share_threshold(len(contributions)),
            drop,
            run_id=self.run_id,
            round_number=round_number,
            minimum_survivors=self.survivors,
            traffic=self.traffic,
            settings=self.settings,
            mechanism=self.mechanism.terms,
            taken_part=self.taken_part,
        )
        self._answered = opened.answered, len(contributions)
        return self.mechanism.opened(opened.total), [client for client in contributions if client in opened.survivors]

    def _sum_in_clear(
        self, contributions: Mapping[str, Contribution], drop: Mapping[DropStage, Set[str]]
    ) -> tuple[npt.NDArray[np.float64], list[str]]:
        """The sum of unmasked vectors (under secure aggregation, of a single client), and the clients in it."""
        gone = set().union(*(drop.get(stage, set()) for stage in BEFORE_THE_VECTOR))
        returned = [client for client in contributions if client not in gone]
        if len(returned) < self.survivors:
            raise RoundAbortedError("masked_input", len(returned), self.survivors)
        masked = self.settings.secure_aggregation
        if masked and len(returned) < self.mechanism.fewest_masked:
            raise RoundAbortedError("sampling", len(returned), self.mechanism.fewest_masked)
        vectors = [contributions[client].vector for client in returned]
        total = self.mechanism.opened(*vectors) if masked else self.mechanism.plain_sum(vectors)
        for client in returned:
            extras = sum(value.nbytes for value in contributions[client].extra.values())
            self.traffic[client] = Traffic(up=contributions[client].vector.nbytes + extras)
        return total, returned


def _weighted(value: npt.NDArray[np.float32], weight: float) -> npt.NDArray[np.float32]:
    """`value` times `weight`; zeros for weight 0 even if `value` is not finite."""
    return value * np.float32(weight) if weight else np.zeros_like(value)


def _weighted_means(weighted: Sequence[State], weight: float) -> State:
    """Weighted means by name: the sums of vectors that are already weighted, divided by the sum of weights."""
    names = weighted[0] if weighted else {}
    sums = {name: np.stack([extra[name] for extra in weighted]).sum(axis=0, dtype=np.float64) for name in names}
    return {name: (total / weight).astype(np.float32) for name, total in sums.items()}
