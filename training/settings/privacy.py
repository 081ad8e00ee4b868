"""Privacy settings: the bound on one client, the noise, secure aggregation and δ."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from common.settings import Settings

Mode = Literal["distributed", "central", "none", "local_no_proof"]
NO_PROOF: Mode = "local_no_proof"


def largest_delta(clients: int) -> float:
    """The largest δ that means something among N clients: min(1e-3, 1/(10 N)).

    Publishing each client's clips whole with probability δ is (0, δ)-private, so δ N must be far below one person.
    """
    return min(1e-3, 0.1 / max(clients, 1))


class PrivacySettings(Settings):
    """How one client's contribution to a round is bounded, hidden and accounted for.

    Modes, and when to use which:
      distributed  nobody is trusted with the sum in clear: each client adds a share of Skellam noise and
                   secure aggregation hides everything but the noisy sum. The default.
      central      one trusted aggregator adds Gaussian noise to the exact sum, once. Slightly smaller epsilon
                   for the same noise (tight accountants apply), at the price of that trust.
      none         clipping and weighting only; no guarantee whatever. For ablations.
      local_no_proof  the paper's formulas as written: each client adds Gaussian noise to its own update, weights
                   are divided by their own sum, counts and scores are sent in clear. No client-level proof, hence never
                   reported as private. For comparisons with the paper.
    """

    mode: Mode = "distributed"
    """Who adds the noise. distributed: each client a share. central: a trusted server. none, local_no_proof: no
    guarantee."""

    # The bound on one client's part.
    clip_norm: float = Field(default=1.0, gt=0, description="C: no client moves the sum by more than this norm")
    noise_multiplier: float = Field(
        default=1.0,
        ge=0,
        description="z: noise deviation over the sensitivity of update and scalars together. About 1 suits real "
        "populations; with a handful of clients it drowns the update; much less promises nearly nothing",
    )
    scalar_budget: float = Field(
        default=0.05, gt=0, lt=1, description="share of 1/z² that pays for the scalars; the rest pays for the update"
    )
    metrics: tuple[str, ...] = Field(
        default=("score",),
        description="validation metrics in [0, 1] that are sent, with noise, inside the same vector: score, and its "
        "parts identity and stability; each takes a share of the scalars' budget",
    )

    # ISFA weights.
    gamma: float = Field(default=0.5, ge=0, description="how strongly ISFA weights follow the score; 0 is FedAvg")
    n_max: int = Field(default=16, ge=1, description="number of clips beyond which a client gains no more weight")

    # The public denominator D.
    denominator: Literal["fixed", "lagged"] = Field(
        default="fixed", description="D: q·N·ā, or a moving average of earlier rounds' noisy sums of weights"
    )
    mean_weight: float = Field(default=0.5, gt=0, le=1, description="ā: public guess of a client's mean weight")

    # Adaptive clipping (Andrew et al. 2021); paid from scalar_budget.
    adaptive_clipping: bool = False
    """Whether the clipping norm follows a noisy quantile of the updates' norms."""
    clip_quantile: float = Field(default=0.5, gt=0, lt=1, description="wanted share of updates that are not clipped")
    clip_learning_rate: float = Field(default=0.2, gt=0, description="how fast the clipping norm follows its quantile")

    # The guarantee.
    delta: float | None = Field(
        default=None, gt=0, lt=1, description="δ; null: min(1e-5, 1/10N). Above min(1e-3, 1/10N) no run is private"
    )
    max_epsilon: float | None = Field(
        default=None,
        gt=0,
        description="largest ε_release of one federation: the round that would exceed it is not begun, and training "
        "ends as finished; null: all rounds are run",
    )
    max_participation: int | None = Field(
        default=None, ge=1, description="most rounds that one client may take part in; null: no cap"
    )

    # Secure aggregation.
    secure_aggregation: bool = Field(True, description="whether the server sees no client's vector, only the sum")
    threshold: float = Field(
        default=0.6,
        gt=0.5,
        le=1,
        description="fraction of a cohort whose shares open the sum; raised where tolerated_colluders needs more",
    )
    survivor_floor: float = Field(
        default=0.8, gt=0, le=1, description="fraction of a cohort below which a round is abandoned"
    )
    tolerated_colluders: int = Field(
        default=1,
        ge=0,
        description="c: clients who may work with the server and reveal their noise and shares to it, without "
        "weakening epsilon or exposing a vector. 1 also covers another client, who knows its own noise",
    )

    seeded_noise: int | None = Field(
        default=None,
        description="null: noise, cohorts and clients' draws come from the operating system. A number: it seeds the "
        "noise, and the run's seed all other draws, so that the run can be repeated; it is then NOT private",
    )
    tuned_on_clients: bool = Field(
        default=False,
        description="true where these settings, or the run to keep, were chosen by figures of clients' own clips: no "
        "budget paid for that choice, and the model is marked NOT private",
    )

    @model_validator(mode="after")
    def _distributed_noise_needs_a_hidden_sum(self) -> PrivacySettings:
        if self.mode == "distributed" and not self.secure_aggregation:
            raise ValueError(
                "mode 'distributed' with secure_aggregation false would show the server each client's vector under "
                "a mere share of the noise; turn secure_aggregation on, or choose mode 'central' or 'none'"
            )
        return self

    @model_validator(mode="after")
    def _only_noise_has_an_epsilon(self) -> PrivacySettings:
        if self.max_epsilon is not None and not (self.has_proof and self.noise_multiplier > 0):
            raise ValueError(
                f"max_epsilon {self.max_epsilon:g} cannot be kept by mode {self.mode!r} with noise_multiplier "
                f"{self.noise_multiplier:g}, which have no finite epsilon; add noise, or set max_epsilon to null"
            )
        return self

    @model_validator(mode="after")
    def _the_papers_weights_need_scalars_in_clear(self) -> PrivacySettings:
        if self.mode == NO_PROOF and self.secure_aggregation:
            raise ValueError(
                f"mode {NO_PROOF!r} with secure_aggregation true cannot be: the paper's weights need each client's "
                "clip count and score by themselves, which a hidden sum does not show; set secure_aggregation to "
                "false, or choose mode 'distributed' or 'central', whose weights need no denominator of private numbers"
            )
        return self

    @property
    def has_proof(self) -> bool:
        """Whether the mechanism, with enough noise from a secret source, has a client-level guarantee."""
        return self.mode in ("distributed", "central")

    @property
    def secret_coins(self) -> bool:
        """Whether cohorts, batches and diffusion draws must be as secret as the noise: a guarantee rests on them."""
        return self.has_proof and self.seeded_noise is None

    @property
    def scalars(self) -> int:
        """How many scalars travel with an update: the weight, the clip indicator, the metrics."""
        return 2 + len(self.metrics)

    def target_delta(self, clients: int) -> float:
        """δ: as set, else min(1e-5, 1/(10 N)) for N clients."""
        return self.delta if self.delta is not None else min(1e-5, largest_delta(clients))

    def colluders_among(self, cohort: int) -> int:
        """c: how many of a cohort may work with the server; at most all but one, since they need a victim."""
        return min(self.tolerated_colluders, max(cohort - 1, 0))

    def share_threshold(self, cohort: int) -> int:
        """t: how many of the cohort must answer for the sum to open; always a majority, and so many that c < 2t − n.

        With more colluders among n clients, a server that names different survivors to different clients gets t answers
        for both sets: see `secure_aggregation`.
        """
        least = (cohort + self.colluders_among(cohort)) // 2 + 1
        return min(cohort, max(math.ceil(self.threshold * cohort), least))

    def minimum_survivors(self, cohort: int) -> int:
        """m_min: with fewer masked vectors than this the noise would fall short, and the round is abandoned."""
        return min(cohort, max(math.ceil(self.survivor_floor * cohort), self.share_threshold(cohort)))
