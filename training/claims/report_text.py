"""The sentences of the privacy report, chosen by its settings and figures; for readers who are not engineers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from training.privacy.accounting.epsilon import epsilon_release
from training.privacy.accounting.guarantee import LARGEST_MEANINGFUL_EPSILON, Population, Together
from training.privacy.accounting.schedule import Schedule
from training.privacy.digits import three_digits
from training.settings.privacy import NO_PROOF, PrivacySettings

UNITS = {
    "person": "one person's",
    "client (several people)": "one client's, which are several people's,",
    "part of a person": "one client's, which may be a part of one person's,",
}
"""Whose clips the guarantee covers, in the note's words. A person spread over several clients is promised less."""


def plain_note(
    settings: PrivacySettings,
    schedule: Schedule,
    epsilon: float,
    together: Together,
    delta: float,
    violated: bool,
    population: Population | None,
    unit: str = "person",
) -> str:
    """A few sentences for everybody: what is promised to whom, and what it would take to promise more.

    epsilon: of this release alone, infinite where none holds. together: of all releases on the same clients. unit: what
    one client is, by `preparation.clients.roles.unit_of`.
    """
    sentences = []
    if math.isinf(epsilon):
        sentences.append("This model comes with no mathematical guarantee about any person.")
    elif violated:
        sentences.append(
            f"The rules that would give ε = {three_digits(epsilon)} at δ = {three_digits(delta)} were not all kept, so "
            "nothing is promised."
        )
    else:
        sentences.append(
            f"Whether or not {UNITS[unit]} clips were used changes the odds of any conclusion from this model by at "
            f"most a factor of e^{three_digits(epsilon)}, except with probability δ = {three_digits(delta)}."
        )
    joint_epsilon = together.bound
    if together.releases > 1 and not violated:
        sentences.append(
            f"The same clients were in {together.releases} releases so far; for all of them together it is "
            f"ε = {three_digits(together.epsilon, 'infinite')} at δ = {three_digits(delta)}."
        )
    if math.isfinite(joint_epsilon) and not (violated and joint_epsilon <= LARGEST_MEANINGFUL_EPSILON):
        sentences.append(_judgement(joint_epsilon, delta, schedule))
    if population is not None:
        sentences.append(
            f"The same training with about {population.clients:,} clients"
            + (f", {population.per_round:,} a round," if population.per_round < population.clients else "")
            + f" would reach ε = {three_digits(population.epsilon_release)} at δ = {population.delta:.1g} "
            "without a less precise average, because the same blur then hides one among many."
        )
    if settings.seeded_noise is not None and settings.mode != "none":
        sentences.append("Its draws can be repeated by anyone who knows the seeds: fit for rendered faces only.")
    return " ".join(sentences)


def _judgement(epsilon: float, delta: float, schedule: Schedule) -> str:
    if epsilon <= 1:
        return "That is a strong promise."
    if epsilon <= LARGEST_MEANINGFUL_EPSILON:
        return "That is a promise of the kind commonly made in practice; smaller would be stronger."
    return (
        f"At δ = {three_digits(delta)} an ε that large promises practically nothing: {schedule.clients:,} clients over "
        f"{schedule.rounds:,} rounds are too few, for this little noise, to hide one."
    )


def assumptions(settings: PrivacySettings, schedule: Schedule, delta: float) -> tuple[str, ...]:
    """What must be true for the report's figures to hold, a sentence each."""
    points = [
        "Every client runs the published software: its clipping and noise are taken on trust.",
        "The figures count every release on the same clients up to this one that is in this run's ledger or the "
        "clients' own; later releases add to them.",
    ]
    if settings.mode == "distributed":
        points += [
            f"A round opens only with at least {settings.survivor_floor:.0%} of its cohort; at most "
            f"{settings.tolerated_colluders} of its clients work with the server or reveal their noise share to it.",
            "Noise is Skellam on a grid that follows its size; rounding to it is part of the sensitivity. It is drawn "
            "in double precision by a statistical generator that is seeded by "
            + ("the operating system." if settings.seeded_noise is None else "a known number."),
        ]
        if schedule.hides_size:
            points.append(
                "The server fills up the noise to a level that no cohort's shares exceed, so that its amount does not "
                "reveal how many were drawn. A cohort of any size opens its round; where dropouts made the opening "
                "depend on one client, no amplification is counted."
            )
    if settings.mode == "central":
        points.append("The aggregator is honest: it adds the Gaussian noise and forgets the exact sum.")
    points.append(
        {
            "poisson": f"Each client joins each round by itself with probability {schedule.rate:.3g}.",
            "allocation": f"Each client joins one round, drawn at random, of every {schedule.block_length:,}.",
            "fixed": f"Each round takes exactly {schedule.per_round} clients at random, and is accounted as such"
            f"{_instead(settings, schedule, delta)}.",
            "full": "Every client takes part in every round; nothing is gained by sampling.",
        }[schedule.sampling]
    )
    if schedule.draws:
        points.append(
            "Only the coordinator knows who was drawn, and clients know it of their own rounds: the draws come from "
            "the operating system and are published nowhere."
            if settings.secret_coins
            else "The figures assume that who was drawn is secret. It was not: the draws follow from the run's seed."
        )
    points.append(
        f"δ = {delta:.2g}" + ("; it is min(1e-5, 1/10N)." if settings.delta is None else "; it was set by hand.")
    )
    if settings.mode == NO_PROOF:
        points.append("Clip counts and scores travel in clear: no budget pays for them, and none could.")
    if settings.has_proof:
        points.append(
            f"{settings.scalar_budget:.0%} of the budget pays for {settings.scalars} noisy scalars a round "
            f"(weight, clipping indicator, {', '.join(settings.metrics) or 'no metrics'}); none travels in clear."
        )
    points.append("The backbone was trained on public speakers, and checkpoints are chosen on public speakers, only.")
    return tuple(points)


def _instead(settings: PrivacySettings, schedule: Schedule, delta: float) -> str:
    """What cohorts of a fixed size cost against allocated ones, where the latter's theorem holds."""
    if settings.mode != "central" or not schedule.draws or schedule.sampling != "fixed":
        return ""
    allocated = epsilon_release(replace(schedule, sampling="allocation"), settings.noise_multiplier, delta)
    if not 0 < allocated.value < math.inf:
        return ""
    return f"; allocation would have cost ε = {three_digits(allocated.value)} instead"


def what_server_saw(settings: PrivacySettings, schedule: Schedule) -> tuple[str, ...]:
    """What the server saw besides the released model, a sentence each."""
    if settings.secure_aggregation:
        points = [
            "Who took part in each round, who dropped out, and the size of their messages.",
            "Masked vectors, each by itself indistinguishable from random numbers.",
        ]
        if settings.mode == "distributed":
            points.append("Per round, the sum of all updates and scalars with its noise already inside.")
        else:
            points.append("Per round, the exact sum of all updates and scalars.")
            points.append(
                "Of a round with one client, which this sampling can draw, that client's own update."
                if schedule.per_round == 1 or schedule.hides_size
                else "No single one of these updates."
            )
    elif settings.mode == NO_PROOF:
        points = [
            "Who took part in each round.",
            "Every client's clip count and score, in clear.",
            "Every client's clipped update with that client's own noise on it.",
        ]
    else:
        points = ["Who took part in each round.", "Every client's clipped and weighted update, in clear."]
    if settings.mode == "central":
        points.append("It added the noise itself before releasing anything.")
    return tuple(points)


def not_protected(settings: PrivacySettings, without_promise: Sequence[str] = ()) -> tuple[str, ...]:
    """What a reader might expect to be protected and is not. without_promise: methods without a guarantee that were
    trained on the same clients."""
    points = [
        "The fact that somebody takes part, and when.",
        "What is common to many clients: a model is meant to learn that.",
        "Figures of clients' own held-out clips, as a simulation's evaluation shows them: epsilon is about the model.",
        "Adapters that clients fit to their own clips: they carry no noise and stay where they are.",
        "A voice or face that a person publishes elsewhere, or that somebody feeds to the finished model.",
    ]
    if without_promise:
        points.append(
            f"Clients against whoever also gets the models of {', '.join(without_promise)}: those were trained on the "
            "same clients without any guarantee, and this report does not cover them."
        )
    if settings.secure_aggregation:
        points.append(
            "The model against malicious clients: single updates cannot be inspected. Clipping bounds the harm of one "
            "client, it does not remove it."
        )
    if not settings.secure_aggregation:
        points.append("A client against the server itself: it sees single updates, from which faces may be rebuilt.")
    points.append(
        "Anything against the operator of a machine that runs server and clients together, as a simulation does."
    )
    return tuple(points)
