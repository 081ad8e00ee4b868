"""The privacy report of a run: its guarantee, the assumptions behind it, what the server saw, what is not protected."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from training.claims.report_text import assumptions, not_protected, plain_note, what_server_saw
from training.privacy.accounting.conditions import delta_violations, settings_violations
from training.privacy.accounting.epsilon import finite
from training.privacy.accounting.guarantee import (
    LARGEST_MEANINGFUL_EPSILON,
    Population,
    Together,
    epsilon_towards_clients,
    epsilons,
    meaningful_population,
)
from training.privacy.accounting.schedule import Sampling, Schedule
from training.privacy.digits import three_digits
from training.settings.privacy import NO_PROOF, PrivacySettings

NONE_HOLDS = "none holds"
"""Printed in place of an infinite ε."""
RULES = 2
"""Version of the privacy rules that a report was made under. Version 1 drew cohorts from a published seed, counted
neither sums that an interruption lost nor earlier releases on the same clients, and accepted any δ."""


@dataclass(frozen=True)
class PrivacyReport:
    """All that a reviewer needs to recompute ε, and all that a reader needs in order not to over-trust it.

    An ε of None means that no finite ε holds. `guarantee_holds` is False where `violations` has any entry (noise from a
    known seed, no noise, too large a δ, a broken rule), whatever the accountant computes for the mechanism. `private`
    also requires the joint ε of all releases to be small enough to mean something (at most 10). Nothing here depends on
    who was drawn: `participation` is the number of rounds that one client exceeds with probability at most δ/2.
    """

    private: bool
    guarantee_holds: bool
    epsilon_release: float | None
    epsilon_server: float | None
    epsilon_client: float | None
    together: Together
    delta: float
    noise_multiplier: float
    clip_norm: float
    clients: int
    rounds: int
    note: str
    mode: str
    clients_per_round: int
    sampling: Sampling
    participation: int
    max_participation: int | None
    dimension: int
    adjacency: str
    accountant_release: str
    accountant_server: str
    accountant_client: str
    secure_aggregation: bool
    seeded_noise: bool
    violations: tuple[str, ...]
    assumptions: tuple[str, ...]
    server_saw: tuple[str, ...]
    not_protected: tuple[str, ...]
    meaningful_population: Population | None
    settings: dict[str, Any]  # all privacy settings, so that epsilon can be recomputed
    clip_norms: tuple[float, ...]  # of each round
    budget: dict[str, float]  # noise over sensitivity of the update and of each scalar; together z
    rules: int = RULES

    @property
    def verdict(self) -> str:
        """The headline: what may be claimed."""
        if self.private:
            return "Private"
        return "A guarantee holds, too weak to mean anything" if self.guarantee_holds else "NOT PRIVATE"

    @property
    def mark(self) -> str:
        """The short label shown with the model wherever it is named: the verdict and the reason for it."""
        if self.violations:
            return f"{self.verdict}: {self.violations[0]}"
        label = f"{self.verdict}: ε = {three_digits(self.together.epsilon, NONE_HOLDS)}, δ = {three_digits(self.delta)}"
        if self.together.releases > 1:
            label += f", of {self.together.releases} releases on the same clients"
        return label

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON: None in place of NaN and infinity."""
        return {**asdict(self), "verdict": self.verdict, "mark": self.mark}

    def to_markdown(self) -> str:
        """The report as Markdown, about two screens: the verdict, the figures, what they rest on."""
        rows = [
            ("ε of the released model", three_digits(self.epsilon_release, NONE_HOLDS), self.accountant_release),
            ("ε towards the server", three_digits(self.epsilon_server, NONE_HOLDS), self.accountant_server),
            ("ε towards another client", three_digits(self.epsilon_client, NONE_HOLDS), self.accountant_client),
            (
                "ε of all releases so far",
                three_digits(self.together.epsilon, NONE_HOLDS),
                f"on the same clients: {self.together.releases}; {self.together.accountant}",
            ),
            ("δ", three_digits(self.delta, NONE_HOLDS), "chance that the bound on ε does not hold"),
            (
                "noise multiplier z",
                f"{self.noise_multiplier:g}",
                self._noise(),
            ),
            ("clipping norm C", f"{self.clip_norm:g}", self._clip_path()),
            *((f"noise / sensitivity, {name}", f"{value:.3g}", "") for name, value in self.budget.items()),
            ("clients, a round", f"{self.clients}, {self.clients_per_round}", f"sampling: {self.sampling}"),
            ("sampling rate q", f"{self._schedule.rate:.3g}", "chance that a client is in a round"),
            ("rounds", f"{self.rounds}", f"one client takes part in at most {self.participation}{self._but_for()}"),
            ("cap on participation", f"{self.max_participation or 'none'}", ""),
            ("mode", self.mode, f"secure aggregation {'on' if self.secure_aggregation else 'off'}"),
        ]
        lines = ["# Privacy report", "", f"**{self.verdict}.** {self.note}", ""]
        lines += ["| | value | |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows), ""]
        lines += [f"Adjacency: {self.adjacency}.", ""]
        for title, points in (
            ("Why this run is not private", self.violations),
            ("What the server saw", self.server_saw),
            ("What the figures rest on", self.assumptions),
            ("What is not protected", self.not_protected),
        ):
            if points:
                lines += [f"## {title}", "", *(f"- {point}" for point in points), ""]
        return "\n".join(lines)

    def _clip_path(self) -> str:
        path = self.clip_norms
        if not path or min(path) == max(path):
            return "no client's update counts for more; the same in all rounds"
        return f"at first; then from {path[0]:.3g} to {path[-1]:.3g}, between {min(path):.3g} and {max(path):.3g}"

    def _noise(self) -> str:
        if self.mode == NO_PROOF:
            return "noise over C on each client's own update; its sensitivity is not known"
        return "noise over sensitivity, updates and scalars together"

    def _but_for(self) -> str:
        often = f", except with probability {three_digits(self.delta / 2)}"
        return often if self._schedule.draws_participation else ""

    @property
    def _schedule(self) -> Schedule:
        return Schedule(self.clients, self.clients_per_round, self.rounds, self.sampling)


def privacy_report(
    settings: PrivacySettings,
    schedule: Schedule,
    dimension: int,
    violations: tuple[str, ...] = (),
    events: tuple[str, ...] = (),
    clip_norms: tuple[float, ...] = (),
    together: Together | None = None,
    unit: str = "person",
) -> PrivacyReport:
    """The report of a run.

    dimension: d, parameters of the update (its scalars are added here). violations: sentences on broken rules beside
    those that the settings alone break. events: sentences on rounds that did not end as planned and that the figures
    count. clip_norms: C of each round. together: the joint cost of all releases on these clients, None where this is
    the only one. unit: what one client is, a key of `report_text.UNITS`.
    """
    delta = settings.target_delta(schedule.clients)
    release, server = epsilons(settings, schedule, dimension, delta)
    client = epsilon_towards_clients(settings, schedule, dimension, delta)
    if together is None or together.releases <= 1:
        without = together.without_promise if together else ()
        together = Together(finite(release.value), release.accountant, 1, without)
    joint_epsilon = together.bound
    violations = (*settings_violations(settings), *delta_violations(settings, schedule.clients), *violations)
    population = meaningful_population(settings, schedule, dimension)
    return PrivacyReport(
        private=not violations and joint_epsilon <= LARGEST_MEANINGFUL_EPSILON,
        guarantee_holds=not violations,
        epsilon_release=finite(release.value),
        epsilon_server=finite(server.value),
        epsilon_client=finite(client.value),
        together=together,
        delta=delta,
        noise_multiplier=0.0 if settings.mode == "none" else settings.noise_multiplier,
        clip_norm=settings.clip_norm,
        clients=schedule.clients,
        rounds=schedule.rounds,
        note=plain_note(settings, schedule, release.value, together, delta, bool(violations), population, unit),
        mode=settings.mode,
        clients_per_round=schedule.per_round,
        sampling=schedule.sampling,
        participation=schedule.participation_but_for(delta / 2),
        max_participation=schedule.max_participation,
        dimension=dimension,
        adjacency="zero-out, one client: all its clips against a vector of zeros in their place",
        accountant_release=release.accountant,
        accountant_server=server.accountant,
        accountant_client=client.accountant,
        secure_aggregation=settings.secure_aggregation,
        seeded_noise=settings.seeded_noise is not None,
        violations=violations,
        assumptions=(*assumptions(settings, schedule, delta), *events),
        server_saw=what_server_saw(settings, schedule),
        not_protected=not_protected(settings, together.without_promise),
        meaningful_population=population,
        settings=settings.model_dump(mode="json"),
        clip_norms=clip_norms,
        budget=budget_split(settings),
    )


def budget_split(settings: PrivacySettings) -> dict[str, float]:
    """Noise over sensitivity, z_i, of the update and of each scalar; the squares of 1/z_i add up to 1/z². Empty without
    noise."""
    if not settings.has_proof or settings.noise_multiplier == 0:
        return {}
    z, beta = settings.noise_multiplier, settings.scalar_budget
    names = ("weight", "clipping indicator", *settings.metrics)
    each = z * math.sqrt(settings.scalars / beta)
    return {"update": z / math.sqrt(1 - beta), **dict.fromkeys(names, each)}
