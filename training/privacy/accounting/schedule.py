"""The schedule of a federation: how many clients there are, how a round's are drawn, and how many rounds there were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from scipy import stats

from common.errors import PrivFedTalkError
from training.privacy.mechanisms.poisson_sampling import VARYING_COHORTS

Sampling = Literal["poisson", "fixed", "allocation", "full"]


def block_length(clients: int, per_round: int) -> int:
    """t: the rounds of a block of allocation, so that on average at most `per_round` of `clients` are in each."""
    return -(-clients // per_round)


@dataclass(frozen=True)
class Schedule:
    """Who takes part when: N clients, m a round on average (poisson, allocation) or exactly (fixed), T rounds."""

    clients: int
    per_round: int
    rounds: int
    sampling: Sampling = "poisson"
    max_participation: int | None = None  # a client sits out (sends zeros) once it has taken part this often
    amplifies: bool = True  # False: one client more or fewer would have decided whether some round's sum was opened
    repeats: int = 0  # allocation: rounds that were repeated with the same cohort after their sums may have been seen

    def __post_init__(self) -> None:
        if not 1 <= self.per_round <= self.clients or self.rounds < 0:
            raise PrivFedTalkError(
                f"a schedule of {self.per_round} of {self.clients} clients over {self.rounds} rounds",
                remedy="take at least one and at most all clients into a round",
            )
        if self.sampling == "full" and self.per_round != self.clients:
            raise PrivFedTalkError(
                f"sampling 'full' with {self.per_round} of {self.clients} clients a round",
                remedy="use sampling 'poisson' or 'fixed', or take all clients into every round",
            )

    @property
    def rate(self) -> float:
        """q, the chance of one client to be in a round."""
        if self.sampling == "allocation":
            return 1 / self.block_length
        return self.per_round / self.clients

    @property
    def mean_cohort(self) -> float:
        """q N, the number of clients in a round on average."""
        return self.clients / self.block_length if self.sampling == "allocation" else float(self.per_round)

    @property
    def block_length(self) -> int:
        """t: the rounds of a block under allocation."""
        return block_length(self.clients, self.per_round)

    @property
    def blocks(self) -> int:
        """The blocks that were begun under allocation; each client takes part once in each."""
        return -(-self.rounds // self.block_length)

    @property
    def participation(self) -> int:
        """The most rounds one client can have taken part in, as far as the schedule alone says."""
        most = self.blocks + self.repeats if self.sampling == "allocation" else self.rounds
        return min(most, self.max_participation or most)

    @property
    def draws(self) -> bool:
        """Whether cohorts are drawn at random, so that who takes part can be secret."""
        return self.sampling != "full" and self.rate < 1.0

    @property
    def draws_participation(self) -> bool:
        """Whether chance decides how often a client takes part."""
        return self.draws and self.sampling != "allocation"

    @property
    def hides_size(self) -> bool:
        """Whether even the size of a cohort is secret."""
        return self.sampling in VARYING_COHORTS and self.draws

    def repeating(self, repeats: int) -> Schedule:
        """The schedule with so many more rounds that had to be repeated after their sums may have been seen.

        A repeated round draws a new cohort and counts as one more, but under allocation its cohort stays what it was.
        """
        if self.sampling == "allocation":
            return replace(self, repeats=self.repeats + repeats)
        return replace(self, rounds=self.rounds + repeats)

    def participation_but_for(self, chance: float) -> int:
        """The number of rounds that one client exceeds with at most this probability: Binomial(T, q)."""
        if not self.draws_participation:
            return self.participation
        return min(self.participation, int(stats.binom.isf(chance, self.rounds, self.rate)))
