"""The protected way from clients' updates to the server's next theta: the only thing that crosses between them.

A client turns its update into one vector (`contribute`), the sum is formed under secure aggregation (`combine`),
the server sees that sum and what follows from it (`released`); how it becomes theta is the
method's server rule. Modes are explained in `training.settings.privacy`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import PrivFedTalkError
from training.federation.client.training import LocalUpdate
from training.federation.methods.base import Released, State
from training.privacy.mechanisms import paper_literal, release, skellam
from training.privacy.mechanisms.mechanism import Mechanism
from training.privacy.secure_aggregation.in_process import DropStage, Traffic, aggregate_in_process
from training.privacy.secure_aggregation.messages import RoundAbortedError
from training.settings.privacy import NO_PROOF, PrivacySettings

BEFORE_THE_VECTOR: tuple[DropStage, ...] = ("advertise", "share_keys", "masked_input")
"""Who falls silent at one of these stages is not in the sum; later ones have sent what is needed."""
LEAST_WEIGHT = 1e-6
"""A sum of weights below it is a sum over updates that all count for nothing."""
NOISE_DEVIATIONS = 6
"""How far beyond its expected length noise is allowed to be: one round in 10^8 goes further."""


@dataclass(frozen=True)
class Contribution:
    """What a client hands to the protocol: ring elements with its noise share, or plain floats without privacy.

    `weight` is a_k; it stays with the client (a simulation's log may show it, the server never sees it). `extra`
    travels in clear beside the vector, times the weight, for methods that have no privacy to lose.
    """

    vector: npt.NDArray[Any]
    weight: float
    extra: State = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """The server's view of a round: the opened sum and whose vectors are in it, but for their order."""

    total: release.RoundSum
    returned: list[str]
    extra: State = field(default_factory=dict)  # weighted means
    each: Sequence[tuple[float, npt.NDArray[np.floating]]] = ()  # see `Released.each`


@dataclass(frozen=True)
class RoundOutcome:
    """The noisy scalars of a finished round, from which the next round's public C and D may follow."""

    weight: float
    within_clip: float  # the share of clients, not their number


METRICS = ("score", "identity", "stability")
"""What a client measures of itself that may travel beside its update."""


@dataclass(frozen=True)
class Lottery:
    """Poisson sampling's public numbers. Its theorem compares a client drawn with the same client not drawn, under the
    same noise: a sum whose noise, or whose reading, followed the number of those who came would tell that number, and
    with it far more than the theorem counts. So the server fills the noise up to what no cohort exceeds, and reads
    scalars with the expected number in the place of the true one."""

    population: int
    expected: float

    def cohorts(self, capped: bool) -> range:
        """Sizes of cohorts, without 0, whose sums must carry the same noise: all but those of probability below
        `skellam.RARE_COHORT`. With a cap on participation, cohorts shrink towards its end."""
        usual = skellam.usual_cohorts(self.population, self.expected)
        return range(1, usual.stop) if capped else usual

    @property
    def most(self) -> float:
        """A number of clients that a round all but never exceeds."""
        return min(self.population, self.expected + NOISE_DEVIATIONS * math.sqrt(self.expected))


class Aggregator:
    """Both ends of one round's protocol. `clip_norm` is the round's C, `denominator` its public divisor D.

    `cohort` is how many clients were sampled: the noise shares and the floor of survivors follow from it. `lottery`
    is given where each client is drawn by itself and there is a guarantee to keep. `run_id` and `taken_part`, client →
    earlier rounds in which its vector left it, are what clients hold the round's terms against; None: a run of its own,
    and its first round.
    """

    def __init__(
        self,
        settings: PrivacySettings,
        cohort: int,
        seed: int,
        clip_norm: float,
        denominator: float,
        lottery: Lottery | None = None,
        *,
        run_id: str | None = None,
        taken_part: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        self.settings, self.seed, self.cohort, self.lottery = settings, seed, cohort, lottery
        self.run_id, self.taken_part = run_id, taken_part
        self.clip_norm, self.denominator = clip_norm, denominator
        if unknown := set(settings.metrics) - set(METRICS):
            raise PrivFedTalkError(
                f"privacy.metrics names {', '.join(sorted(unknown))}, which no client measures",
                f"name some of {', '.join(METRICS)}, or none",
            )
        if settings.secure_aggregation and not lottery and 2 <= cohort <= settings.tolerated_colluders:
            raise PrivFedTalkError(
                f"privacy.tolerated_colluders is {settings.tolerated_colluders} in a cohort of {cohort}",
                f"tolerate at most {cohort - 1} colluders, or take more than {settings.tolerated_colluders} clients "
                "into a round (federation.clients_per_round)",
            )
        self.deviation = release.noise_deviation(settings, clip_norm)
        self.mechanism = Mechanism.of(settings, max(cohort, 1), clip_norm)
        self.grid = self.mechanism.grid
        self.survivors = settings.minimum_survivors(max(cohort, 1))
        self.honest = self._honest(cohort)
        self._whole = skellam.steady_share(self._steady_cohorts(), self._honest)
        self.ring = skellam.choose_ring(
            release.vector_norm_bound(settings, clip_norm),
            self.grid,
            self.deviation if settings.mode == "distributed" else 0.0,
            max(cohort, 1),
            self.honest,
        )
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

    def noise_on_sum(self, clients: int, dimension: int = 0) -> float:
        """The deviation of the noise on a sum of `clients` vectors of `dimension` coordinates, scalars included: shares
        beyond those counted on add to it, and a lottery's sums all carry the same."""
        if self.settings.mode == "central":
            return self.central_deviation(dimension)
        if self.settings.mode != "distributed":
            return self.deviation
        if self.lottery:
            return self.deviation * math.sqrt(self._whole)
        return self.deviation * math.sqrt(max(clients, 1) / self.honest)

    def central_deviation(self, dimension: int) -> float:
        """The deviation of the server's Gaussian noise on a sum of vectors of `dimension` coordinates, scalars
        included: zS, and with masks z(S + r), r what rounding to their grid adds to a vector's norm.

        Proof. A client moves the sum by its rounded vector, of norm at most S + r (`skellam.rounding_bound`), and the
        noise is z times that: a Gaussian mechanism of multiplier z, which is what is accounted. ∎
        """
        if not self.settings.secure_aggregation:
            return self.deviation
        bound = release.vector_norm_bound(self.settings, self.clip_norm)
        return self.deviation * (1 + skellam.rounding_bound(bound, self.grid, dimension) / bound)

    def near_abort(self, survivors: int) -> bool:
        """Whether this round's sum over `survivors` vectors opened, and would not have with one of them not drawn.

        Such a sum tells that each of its clients was drawn: amplification by sampling does not hold for it. In all
        others it does. Proof. Fix all but client x, which is drawn with chance q and, if drawn, drops out with chance
        p. If the sum opens with x and without, an opened sum holds x with chance q(1 − p)/(1 − qp) ≤ q, under one
        noise. A round that was abandoned holds nobody, and whatever x sent would have been as likely to be. ∎
        Where nobody drops out, cohorts of any size open.
        """
        settings, one_less = self.settings, max(self.cohort - 1, 0)
        if not self.lottery or survivors < self.survivors or not one_less:
            return False
        few_vectors = survivors - 1 < settings.minimum_survivors(one_less)
        answered, roster = self._answered or (survivors, survivors)
        return few_vectors or (roster > 1 and answered - 1 < settings.share_threshold(roster - 1))

    def norm_bound(self, total: release.RoundSum) -> float:
        """The most that updates and noise on a sum can come to, but for rounding: m C, and noise of deviation s on d
        coordinates, s (sqrt d + 6), by concentration. By the paper's weights both grow with Σ a_k, not with m."""
        noise = math.sqrt(total.update.size) + NOISE_DEVIATIONS
        on_sum = self.noise_on_sum(total.clients, total.update.size + self.settings.scalars)
        if self.lottery:
            return self.lottery.most * self.clip_norm + on_sum * noise
        if self.settings.mode == NO_PROOF:
            return total.weight * (self.clip_norm + self.deviation * noise)
        return total.clients * self.clip_norm + on_sum * noise

    def contribute(self, client: str, update: LocalUpdate, round_number: int) -> Contribution:
        """On the client: clip, weigh, append the centred scalars, add this client's share of the noise.

        An update that is not finite counts for nothing. Where there is a guarantee to keep, it becomes the zero vector
        that the guarantee compares with, scalars included; where there is none, an update of weight zero.
        """
        if self.settings.mode == NO_PROOF:
            return self._to_the_letter(client, update, round_number)
        settings, broken = self.settings, not np.isfinite(update.delta).all()
        if broken and settings.mode == "none":
            update = replace(update, delta=np.zeros_like(update.delta), clips=0)
        metrics = {name: getattr(update, name) for name in settings.metrics}
        vector = release.client_vector(update.delta, update.clips, update.score, metrics, settings, self.clip_norm)
        weight = 0.0 if broken else release.isfa_weight(update.clips, update.score, settings.n_max, settings.gamma)
        if not settings.secure_aggregation:
            extra = {name: _weighted(value, weight) for name, value in update.extra.items()}
            if settings.mode == "central":  # as float32 its norm must not grow
                vector = vector * (1 - 2.0**-24)
            return Contribution(vector.astype(np.float32), weight, extra)
        assert not update.extra, "what a method sends beside its update has no place in the protected vector"
        integers = skellam.quantise(vector, self.grid)
        if settings.mode == "distributed":
            generator = skellam.noise_generator(settings.seeded_noise, self.seed, client, round_number)
            integers = integers + skellam.skellam_noise(self.mechanism.share_variance, len(integers), generator)
        return Contribution(self.ring.encode(integers), weight)

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
        vectors = {client: contribution.vector for client, contribution in contributions.items()}
        if settings.secure_aggregation and len(vectors) > 1:
            opened = aggregate_in_process(
                vectors,
                settings.share_threshold(len(vectors)),
                drop,
                run_id=self.run_id,
                round_number=round_number,
                minimum_survivors=self.survivors,
                traffic=self.traffic,
                settings=settings,
                mechanism=self.mechanism,
                taken_part=self.taken_part,
            )
            returned = [client for client in vectors if client in opened.survivors]
            total = self._opened(opened.total)
            self._answered = opened.answered, len(vectors)
        else:
            gone = set().union(*(drop.get(stage, set()) for stage in BEFORE_THE_VECTOR))
            returned = [client for client in vectors if client not in gone]
            if len(returned) < self.survivors:
                raise RoundAbortedError("masked_input", len(returned), self.survivors)
            if settings.secure_aggregation and settings.mode == "none":
                raise RoundAbortedError("sampling", 1, 2)  # the sum over one hides nothing
            total = self._plain_sum([contributions[client] for client in returned])
            for client in returned:
                extras = sum(value.nbytes for value in contributions[client].extra.values())
                self.traffic[client] = Traffic(up=vectors[client].nbytes + extras)
        if settings.mode == "central":
            total = total + self._servers_noise(len(total), round_number)
        elif settings.mode == "distributed" and self.lottery:
            total = total + self._skellam_of_the_server(len(total), round_number, len(returned) / self.honest)
        summed = self._read(total, len(returned))
        if not settings.has_proof and summed.weight < LEAST_WEIGHT:
            raise RoundAbortedError("aggregation", 0, 1)
        extra = _weighted_means([contributions[client].extra for client in returned], summed.weight)
        return Aggregate(summed, returned, extra, self._each([contributions[client] for client in returned]))

    def noise_alone(self, dimension: int, round_number: int) -> Aggregate | None:
        """The sum over nobody, with its noise: what the theorem of Poisson sampling asks for when none was drawn.

        Nothing released would show that nobody was there. The server adds the noise by itself, in any mode: it
        knows of the empty cohort anyway. None where there is no guarantee, hence no noise.
        """
        settings = self.settings
        if not settings.has_proof:
            return None
        size = dimension + settings.scalars
        if settings.mode == "central":
            noise = self._servers_noise(size, round_number)
        else:
            noise = self._skellam_of_the_server(size, round_number, 0.0)
        return Aggregate(self._read(noise, 0), [])

    def released(self, aggregate: Aggregate, share: float) -> Released:
        """What the server's step may use. Without a guarantee to keep, D is the round's own weight sum, as in
        FedAvg and in the paper."""
        total = aggregate.total
        denominator = self.denominator if self.settings.has_proof else total.weight
        return Released(total.update, denominator, aggregate.extra, share, aggregate.each)

    def _each(self, contributions: Sequence[Contribution]) -> list[tuple[float, npt.NDArray[Any]]]:
        """The sum's parts where they lie open: no masks, no noise. A weight is no secret there, the vectors have it."""
        settings = self.settings
        if settings.secure_aggregation or settings.mode != "none":
            return []
        return [(one.weight, one.vector[: len(one.vector) - settings.scalars]) for one in contributions]

    def _plain_sum(self, contributions: Sequence[Contribution]) -> npt.NDArray[np.float64]:
        """Float vectors as they are, or the one vector of a protocol that would have a single member."""
        if self.settings.secure_aggregation:
            (only,) = contributions
            return self._opened(only.vector)
        if self.settings.mode == NO_PROOF:
            return paper_literal.weighted_sum([each.vector for each in contributions], self.settings.gamma)
        # One after the other, np.sum's order and result: stacked first, all vectors would be there a second time.
        total = contributions[0].vector.astype(np.float64)
        for contribution in contributions[1:]:
            total += contribution.vector
        return total

    def _to_the_letter(self, client: str, update: LocalUpdate, round_number: int) -> Contribution:
        settings = self.settings
        generator = skellam.noise_generator(settings.seeded_noise, self.seed, client, round_number)
        message = paper_literal.client_message(
            update.delta, update.clips, update.score, self.clip_norm, self.deviation, generator
        )
        n_k, s_k, _ = message[-paper_literal.SCALARS :]
        return Contribution(message.astype(np.float32), paper_literal.paper_weight(n_k, s_k, settings.gamma))

    def _read(self, total: npt.NDArray[np.float64], clients: int) -> release.RoundSum:
        if self.settings.mode == NO_PROOF:
            return paper_literal.read_sum(total, clients)
        seen = self.lottery.expected if self.lottery else None
        return release.read_sum(total, clients, self.settings, self.clip_norm, seen)

    def _opened(self, total: skellam.RingVector) -> npt.NDArray[np.float64]:
        return skellam.dequantise(self.ring.decode(total), self.grid)

    def _honest(self, cohort: int) -> int:
        """How many shares of a cohort make up the noise that is counted on; in the smallest each client's is whole."""
        return self.settings.minimum_survivors(max(cohort, 1)) - self.settings.colluders_among(cohort)

    def _steady_cohorts(self) -> range:
        capped = self.settings.max_participation is not None
        return self.lottery.cohorts(capped) if self.lottery else range(0)

    def _skellam_of_the_server(self, size: int, round_number: int, there: float) -> npt.NDArray[np.float64]:
        """What a sum lacks of the noise that every sum of the lottery carries; `there` of what is counted on it has."""
        counted = (self.deviation / self.grid) ** 2
        generator = skellam.noise_generator(self.settings.seeded_noise, self.seed, "server", round_number)
        missing = max(self._whole - there, 0.0) * counted
        return skellam.dequantise(skellam.skellam_noise(missing, size, generator), self.grid)

    def _servers_noise(self, size: int, round_number: int) -> npt.NDArray[np.float64]:
        generator = skellam.noise_generator(self.settings.seeded_noise, self.seed, "server", round_number)
        return skellam.gaussian_noise(self.central_deviation(size), size, generator)


def _weighted(value: npt.NDArray[np.float32], weight: float) -> npt.NDArray[np.float32]:
    """Zero times what is not finite is zero here: the client holds it back."""
    return value * np.float32(weight) if weight else np.zeros_like(value)


def _weighted_means(weighted: Sequence[State], weight: float) -> State:
    """Sums of already weighted vectors over the sum of weights, by name."""
    names = weighted[0] if weighted else {}
    sums = {name: np.stack([extra[name] for extra in weighted]).sum(axis=0, dtype=np.float64) for name in names}
    return {name: (total / weight).astype(np.float32) for name, total in sums.items()}


def next_clip_norm(settings: PrivacySettings, past: Sequence[RoundOutcome]) -> float:
    """C of the round after `past`: as set, or moved by each past round's noisy share of unclipped updates."""
    C = settings.clip_norm
    if settings.adaptive_clipping:
        for outcome in past:
            C = release.adapted_clip_norm(C, outcome.within_clip, settings)
    return C


def next_denominator(settings: PrivacySettings, cohort: int, population: int, past: Sequence[RoundOutcome]) -> float:
    """D of the round after `past`: q N a-bar, or (`lagged`) never less than half of it and following past sums.

    `cohort` is the expected one, q N: public, and no round's own number.
    """
    fixed = release.fixed_denominator(cohort / population, population, settings.mean_weight)
    if settings.denominator == "fixed":
        return fixed
    lagged = release.LaggedDenominator(value=fixed, floor=fixed / 2)
    for outcome in past:
        lagged = lagged.after(outcome.weight)
    return lagged.value
