"""One round's sum: what clients hand to the protocol, the sum over those who stay, and what the server reads of it.

A client turns its update into one vector (`contribute`), the sum is formed under secure aggregation or in clear
(`combine`), the server sees that sum and what follows from it (`released`); how it becomes theta is the method's server
rule. What is clipped, noised and read, and how, is the mechanism's: see `training.privacy.mechanisms`.
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
"""Who falls silent at one of these stages is not in the sum; later ones have sent what is needed."""
LEAST_WEIGHT = 1e-6
"""A sum of weights below it is a sum over updates that all count for nothing."""


@dataclass(frozen=True)
class Contribution:
    """What a client hands to the protocol: ring elements with its noise share, or plain floats without masks.

    `weight` is a_k; it stays with the client (a simulation's log may show it, the server never sees it). `extra`
    travels in clear beside the vector, times the weight, for methods that have no privacy to lose.
    """

    vector: npt.NDArray[Any]
    weight: float
    extra: State = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """The server's view of a round: the opened sum and whose vectors are in it, but for their order."""

    total: RoundSum
    returned: list[str]
    extra: State = field(default_factory=dict)  # weighted means
    each: Sequence[tuple[float, npt.NDArray[np.floating]]] = ()  # see `Released.each`


class Aggregator:
    """Both ends of one round's protocol, around the round's mechanism. `denominator` is its public divisor D.

    `cohort` is how many clients were sampled: the floor of survivors follows from it, and the mechanism's noise shares.
    `poisson` is given where each client is drawn by itself and there is a guarantee to keep. `run_id` and `taken_part`,
    client → earlier rounds in which its vector left it, are what clients hold the round's terms against; None: a run of
    its own, and its first round.
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
        self._answered: tuple[int, int] | None = None  # of how many who began the protocol how many ended it

    @property
    def bytes_up(self) -> int:
        """What clients have sent so far, of rounds that were abandoned too."""
        return sum(each.up for each in self.traffic.values())

    @property
    def bytes_down(self) -> int:
        """What the protocol has sent to clients so far: keys and others' shares, beside what is announced to them."""
        return sum(each.down for each in self.traffic.values())

    def near_abort(self, survivors: int) -> bool:
        """Whether this round's sum over `survivors` vectors opened, and would not have with one of them not drawn.

        Such a sum tells that each of its clients was drawn: amplification by sampling does not hold for it. In all
        others it does. Proof. Fix all but client x, which is drawn with chance q and, if drawn, drops out with chance
        p. If the sum opens with x and without, an opened sum holds x with chance q(1 − p)/(1 − qp) ≤ q, under one
        noise. A round that was abandoned holds nobody, and whatever x sent would have been as likely to be. ∎
        Where nobody drops out, cohorts of any size open.
        """
        settings, one_less = self.settings, max(self.cohort - 1, 0)
        if not self.poisson or survivors < self.survivors or not one_less:
            return False
        few_vectors = survivors - 1 < settings.minimum_survivors(one_less)
        answered, roster = self._answered or (survivors, survivors)
        return few_vectors or (roster > 1 and answered - 1 < settings.share_threshold(roster - 1))

    def contribute(self, client: str, update: LocalUpdate, round_number: int) -> Contribution:
        """On the client: the mechanism clips, weighs and, where clients add noise, adds this client's share.

        An update that is not finite counts for nothing, and so does what the method sends beside it.
        """
        vector, weight = self.mechanism.protect(update, client, round_number)
        assert not (self.settings.secure_aggregation and update.extra), "only the protected vector has masks"
        return Contribution(vector, weight, {name: _weighted(value, weight) for name, value in update.extra.items()})

    def combine(
        self,
        contributions: Mapping[str, Contribution],
        round_number: int,
        drop: Mapping[DropStage, Set[str]] | None = None,
    ) -> Aggregate:
        """Form the sum, under the secure aggregation protocol where it is on, and read the scalars out of it.

        `drop` says who falls silent at which stage of the upload. RoundAbortedError where fewer than the floor of
        survivors are left; without masks the same floor holds, so that methods can be compared round by round.
        A cohort of one, as Poisson sampling may draw it, is hidden by the noise alone, which is then all its own.
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
        """The sum over nobody, with its noise: what the theorem of Poisson sampling asks for when none was drawn.

        Nothing released would show that nobody was there. The server adds the noise by itself, in any mode: it
        knows of the empty cohort anyway. None where there is no guarantee, hence no noise.
        """
        if not self.settings.has_proof:
            return None
        nothing = np.zeros(dimension + self.settings.scalars)
        return Aggregate(self.mechanism.read_sum(self.mechanism.add_noise(nothing, round_number, 0), 0), [])

    def released(self, aggregate: Aggregate, share: float) -> Released:
        """What the server's step may use; `share` is the cohort's of all clients."""
        total = aggregate.total
        divisor = self.mechanism.divisor(self.denominator, total)
        return Released(total.update, divisor, aggregate.extra, share, aggregate.each)

    def _masked_sum(
        self, contributions: Mapping[str, Contribution], round_number: int, drop: Mapping[DropStage, Set[str]]
    ) -> tuple[npt.NDArray[np.float64], list[str]]:
        """The sum that the protocol opens, and whose vectors are in it."""
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
        """The sum of vectors without masks, or the one vector of a protocol that would have a single member."""
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
    """Zero times what is not finite is zero here: the client holds it back."""
    return value * np.float32(weight) if weight else np.zeros_like(value)


def _weighted_means(weighted: Sequence[State], weight: float) -> State:
    """Sums of already weighted vectors over the sum of weights, by name."""
    names = weighted[0] if weighted else {}
    sums = {name: np.stack([extra[name] for extra in weighted]).sum(axis=0, dtype=np.float64) for name in names}
    return {name: (total / weight).astype(np.float32) for name, total in sums.items()}
