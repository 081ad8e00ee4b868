"""The canary audit: it tests the claim of a run's privacy report by attacking the code that the claim is about.

Clients that only carry canaries play the federation's rounds (`training.federation.round.play_round`): the same draw of
cohorts, clipping, weights, noise, masks, opened sum, checks and server's step as in training. Only local training is
left out. `evaluation.attacks.canary_bounds` measures how well the results tell which canaries were included.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from common import seeding
from common.errors import PrivFedTalkError
from common.files import write_text
from common.folders import AUDIT, RunFolder
from common.settings import Settings
from common.text.commands import command
from evaluation.attacks.canary_bounds import Bound, Estimate, Scores, iterate_score, lower_bound, one_shot
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods.base import ServerRule, Theta
from training.federation.records import RoundEvents
from training.federation.round import Rounds, play_round
from training.federation.server.checkpoint import Progress
from training.federation.server.cohorts import sample_clients
from training.privacy.accounting.coins import Coins
from training.privacy.accounting.epsilon import finite
from training.privacy.accounting.guarantee import epsilons
from training.privacy.accounting.schedule import Sampling, Schedule
from training.privacy.digits import three_digits
from training.settings import FederationSettings, TrainingSettings
from training.settings.privacy import PrivacySettings

CONFIDENCE = 0.95
_MOST_CANARIES = 1000
_MASKED_COHORT = 24
_FEWEST_CANARIES = 64


class AuditSettings(Settings):
    """How large an audit is, and which fault is planted in the audited mechanism."""

    canaries: int | None = Field(
        None,
        ge=20,
        description="number of canaries, M; None: 1000, or with secure aggregation as many as give cohorts of 24",
    )
    dimension: int = Field(
        20_000, ge=100, description="number of parameters; far more than canaries, so that canaries can be told apart"
    )
    noise_factor: float = Field(
        1.0,
        ge=0,
        description="noise really added over the noise claimed; 0.316 plants the fault that the audit must find",
    )
    seeded_cohorts: bool = Field(
        False, description="draws cohorts from the public seed: the fault that recomputed cohorts must find"
    )
    seed: int = Field(
        0, ge=0, description="seed of directions and of who is included; noise and cohorts have their own sources"
    )


@dataclass(frozen=True)
class Claim:
    """The audited claim: a mechanism, the sampling of its cohorts, the number of rounds, and δ."""

    privacy: PrivacySettings
    rate: float
    sampling: Sampling
    rounds: int
    delta: float

    @classmethod
    def of_report(cls, report: dict[str, Any]) -> Claim:
        """The claim of a run, from the content of its `privacy.json`."""
        rate = report["clients_per_round"] / report["clients"]
        privacy = PrivacySettings.model_validate(report["settings"])
        return cls(privacy, rate, report["sampling"], report["rounds"], report["delta"])


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit. `flagged` where it shows more leakage than is claimed, so that the claim is false."""

    flagged: bool
    verdict: str
    claimed_epsilon: float | None
    delta: float
    one_shot: Estimate
    final: Bound
    all_iterates: Bound
    recomputed: Bound
    confidence: float
    canaries: int
    included: int
    dimension: int
    rounds: int
    opened: int
    per_round: int
    sampling: str
    mode: str
    noise_multiplier: float
    noise_factor: float
    secure_aggregation: bool
    settings: dict[str, Any] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a `claimed_epsilon` of None means that no ε is claimed."""
        return asdict(self)


@dataclass(frozen=True)
class Canaries:
    """Canaries: directions float32 [M, d], uniform on the unit sphere, and which of them are included, bool [M]."""

    directions: npt.NDArray[np.float32]
    included: npt.NDArray[np.bool_]

    @classmethod
    def draw(cls, count: int, dimension: int, seed: int) -> Canaries:
        rng = seeding.generator(seed, "canaries")
        directions = rng.standard_normal((count, dimension), dtype=np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return cls(directions, rng.random(count) < 0.5)

    @property
    def names(self) -> list[str]:
        return [f"canary {number:05d}" for number in range(len(self.included))]

    def update(self, number: int, settings: PrivacySettings, clip_norm: float) -> LocalUpdate:
        """C·c_j at full weight. A canary that is not included has an update that is not finite, which is sent as the
        zero vector that the guarantee compares with."""
        delta = self.directions[number] * np.float32(clip_norm if self.included[number] else np.nan)
        return LocalUpdate(delta, settings.n_max, 1.0, {}, 0.0)

    def seen_in(self, vector: npt.NDArray[np.floating]) -> Scores:
        """The inner product of each canary's direction with a vector [d], float64 [M]."""
        return (self.directions @ vector.astype(np.float32)).astype(np.float64)


def audit(
    claim: Claim,
    settings: AuditSettings | None = None,
    on_round: Callable[[int, int], None] = lambda number, rounds: None,
) -> AuditReport:
    """Run the claimed mechanism on canaries and compare the leakage found with the claimed ε_release."""
    settings = settings or AuditSettings()
    if claim.rounds == 0:
        raise PrivFedTalkError("an audit of no rounds", "train at least one round")
    count = settings.canaries or default_canaries(claim)
    per_round = count if claim.sampling == "full" else max(1, round(claim.rate * count))
    schedule = Schedule(count, per_round, claim.rounds, claim.sampling, claim.privacy.max_participation)
    claimed, _ = epsilons(claim.privacy, schedule, settings.dimension, claim.delta)
    canaries = Canaries.draw(count, settings.dimension, settings.seed)

    theta = np.zeros(settings.dimension, np.float32)
    total, guessed, opened, q = np.zeros(count), np.zeros(count), 0, schedule.rate
    published = Coins(settings.seed)  # all that a run publishes about its draws
    for number, events in enumerate(_rounds(claim, settings, schedule, canaries), start=1):
        aggregate, mechanism = events.step.aggregate, events.aggregator.mechanism
        if aggregate is not None:
            C, opened = mechanism.clip_norm, opened + 1
            z = max(mechanism.deviation / C, 1e-6)
            seen = canaries.seen_in(aggregate.total.update / C)
            total += iterate_score(seen, q, z)
            cohort = set(sample_clients(canaries.names, federation_of(claim, schedule), published, number))
            drawn = np.array([name in cohort for name in canaries.names])
            guessed += np.where(drawn, iterate_score(seen, 1.0, z), 0.0)
        theta = events.step.theta
        on_round(number, claim.rounds)
    length = float(np.linalg.norm(theta.astype(np.float64)))
    if not length:
        raise PrivFedTalkError(
            f"none of the {claim.rounds} audited rounds moved the adapter", "audit more canaries, so that cohorts grow"
        )
    cosines = canaries.seen_in(theta) / length
    estimate = one_shot(cosines[canaries.included], settings.dimension, claim.delta, settings.seed)
    # Bounds that hold jointly; where everybody takes part, the last two are the same.
    attacks = (cosines, total, guessed)
    each = 1 - (1 - CONFIDENCE) / (3 if schedule.draws else 2)
    final, iterates, recomputed = (lower_bound(scores, canaries.included, claim.delta, each) for scores in attacks)
    flagged, verdict = judge(claimed.value, estimate, max(final.value, iterates.value, recomputed.value), claim.delta)
    return AuditReport(
        flagged=flagged,
        verdict=verdict,
        claimed_epsilon=finite(claimed.value),
        delta=claim.delta,
        one_shot=estimate,
        final=final,
        all_iterates=iterates,
        recomputed=recomputed,
        confidence=CONFIDENCE,
        canaries=count,
        included=int(canaries.included.sum()),
        dimension=settings.dimension,
        rounds=claim.rounds,
        opened=opened,
        per_round=per_round,
        sampling=claim.sampling,
        mode=claim.privacy.mode,
        noise_multiplier=claim.privacy.noise_multiplier,
        noise_factor=settings.noise_factor,
        secure_aggregation=claim.privacy.secure_aggregation,
        settings=claim.privacy.model_dump(mode="json"),
    )


def audit_run(
    run: RunFolder,
    method: str,
    settings: AuditSettings | None = None,
    on_round: Callable[[int, int], None] = lambda number, rounds: None,
) -> AuditReport:
    """Audit the claim of a trained method's privacy report. The result is written to the run's folder, except with a
    planted fault, which the run does not have."""
    path = run.privacy(method)
    if not path.exists():
        raise PrivFedTalkError(
            f"{method} is not trained in {run.root}, so it claims nothing",
            command("train", run=run.root, method=method),
        )
    report = json.loads(path.read_text(encoding="utf-8"))
    settings = settings or AuditSettings()
    smaller = min(settings.dimension, report["dimension"])
    found = audit(Claim.of_report(report), settings.model_copy(update={"dimension": smaller}), on_round)
    if settings.noise_factor == 1 and not settings.seeded_cohorts:
        document = json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n"
        write_text(run.attack("audit", method) / AUDIT, document)
    return found


def judge(claimed: float, estimate: Estimate, bound: float, delta: float) -> tuple[bool, str]:
    """Whether the claim is refuted, and the sentence that says so. An estimate refutes with its whole interval."""
    if math.isinf(claimed):
        return False, "No ε is claimed, so there is nothing to refute."
    least, about, surely, claim = map(three_digits, (bound, estimate.value, estimate.low, claimed))
    at = f"at δ = {delta:.2g}"
    if bound > claimed:
        return True, f"Refuted: ε is at least {least} {at}, more than the {claim} that is claimed."
    if estimate.low > claimed:
        return True, f"Refuted by estimate: ε is about {about} {at}, surely above {surely}, where {claim} is claimed."
    return False, f"Not refuted: ε is at least {least} and about {about} {at}; claimed is {claim}."


def default_canaries(claim: Claim) -> int:
    """The number of canaries that time allows: a masked cohort takes time with the square of its size."""
    if not claim.privacy.secure_aggregation:
        return _MOST_CANARIES
    if claim.sampling == "full":
        return _FEWEST_CANARIES
    return min(_MOST_CANARIES, max(_FEWEST_CANARIES, round(_MASKED_COHORT / claim.rate)))


@dataclass(frozen=True)
class CanaryClients:
    """The engine of an audit: clients that do not train and send their canaries."""

    canaries: Canaries
    settings: PrivacySettings

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.canaries.names)}

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        C = announced.clip_norm
        return {client: self.canaries.update(self.numbers[client], self.settings, C) for client in clients}


def _rounds(claim: Claim, audit: AuditSettings, schedule: Schedule, canaries: Canaries) -> Iterator[RoundEvents]:
    """The claim's rounds of Algorithm 1, with canaries as clients."""
    privacy = claim.privacy.model_copy(update={"noise_multiplier": claim.privacy.noise_multiplier * audit.noise_factor})
    settings = TrainingSettings(federation=federation_of(claim, schedule), privacy=privacy)
    server, theta = ServerRule(settings), np.zeros(audit.dimension, np.float32)
    coins = Coins(audit.seed) if audit.seeded_cohorts else _secret_coins(privacy, audit.seed)
    engine = CanaryClients(canaries, privacy)
    rounds = Rounds(engine, server, canaries.names, settings, _unmeasured, coins, audit.seed)
    progress = Progress(theta, server.initial(theta), theta)
    for _ in range(claim.rounds):
        record, events = play_round(rounds, progress)
        progress.advance(record, events.step.theta, events.step.state)
        yield events


def _secret_coins(privacy: PrivacySettings, seed: int) -> Coins:
    """Coins for secret cohorts, which a claim is about. Where the noise is seeded an audit must be repeatable, so its
    cohorts follow from the seed too, but not in the way that is published."""
    if privacy.secret_coins:
        return Coins.toss(privacy, seed)
    return Coins(seed, hashlib.sha256(f"audited cohorts {seed}".encode()).digest())


def federation_of(claim: Claim, schedule: Schedule) -> FederationSettings:
    """The settings that draw cohorts as the claim says."""
    return FederationSettings(
        rounds=claim.rounds,
        clients_per_round=None if claim.sampling == "full" else schedule.per_round,
        sampling="fixed" if claim.sampling == "full" else claim.sampling,
    )


def _unmeasured(theta: Theta) -> float:
    return 0.0
