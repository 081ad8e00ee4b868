"""Coins that a theorem takes for secret: nobody recomputes them from what a run publishes, and no file tells them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.attacks.canaries import AuditSettings, Claim, audit
from tests.training.privacy_records import round_record, settings_with
from tests.training.small_federation import TrainerFor, federate
from tests.training.small_federation import settings_with as small_settings
from training.claims.account import account
from training.federation.client.training import Announcement
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.cohorts import sample_clients
from training.privacy.accounting.coins import Coins, client_draws
from training.privacy.accounting.schedule import Sampling
from training.settings import FederationSettings, TrainingSettings
from training.settings.privacy import PrivacySettings

MANY = [f"c{number}" for number in range(60)]
SECRET, SEEDED = PrivacySettings(), PrivacySettings(seeded_noise=0)


def cohorts(coins: Coins, sampling: str, rounds: int = 30) -> list[list[str]]:
    settings = FederationSettings(sampling=sampling, clients_per_round=10)
    return [sample_clients(MANY, settings, coins, number) for number in range(1, rounds + 1)]


@pytest.mark.parametrize("sampling", ["poisson", "fixed", "allocation"])
def test_cohorts_do_not_follow_from_the_published_seed(sampling: str) -> None:
    drawn = cohorts(Coins.toss(SECRET, seed=0), sampling)
    assert drawn != cohorts(Coins.toss(SECRET, seed=0), sampling)
    recomputed = cohorts(Coins(0), sampling)
    # As often alike as chance has it: each pair of memberships agrees with q^2 + (1 - q)^2 = 0.72.
    alike = np.mean(
        [(name in ours) == (name in theirs) for ours, theirs in zip(drawn, recomputed, strict=True) for name in MANY]
    )
    assert abs(alike - 0.72) < 5 * np.sqrt(0.72 * 0.28 / (30 * 60))
    # Where nothing is promised, or the noise is seeded and the report says so, they repeat.
    for settings in (SEEDED, PrivacySettings(mode="none", secure_aggregation=False)):
        assert cohorts(Coins.toss(settings, seed=0), sampling) == recomputed


@pytest.mark.parametrize("sampling", ["poisson", "fixed", "allocation"])
def test_secret_cohorts_are_drawn_as_the_accountant_has_it(sampling: str) -> None:
    drawn = cohorts(Coins.toss(SECRET, seed=0), sampling, rounds=3000)
    joined = np.array([[name in cohort for name in MANY] for cohort in drawn], float)
    np.testing.assert_allclose(joined.mean(0), 1 / 6, atol=6 * np.sqrt(5 / 36 / 3000))
    sizes = joined.sum(1)
    assert set(sizes) == {10} if sampling == "fixed" else sizes.var() == pytest.approx(60 * 5 / 36, rel=0.2)


def test_an_interrupted_federation_draws_as_it_would_have_and_a_repeated_round_anew() -> None:
    coins = Coins.toss(SECRET, seed=0)
    again = Coins(7, coins.key)
    assert cohorts(coins, "poisson") == cohorts(again, "poisson")
    settings = FederationSettings(sampling="poisson", clients_per_round=10)
    attempts = [sample_clients(MANY, settings, coins, 1, attempt) for attempt in (1, 2, 3)]
    assert attempts[0] != attempts[1] != attempts[2]


def test_a_clients_draws_are_its_own() -> None:
    def draws(settings: PrivacySettings) -> list[float]:
        return list(client_draws(settings, 0, "local", "c0", "1").random(4))

    assert draws(SECRET) != draws(SECRET)
    assert draws(SEEDED) == draws(SEEDED) == draws(PrivacySettings(mode="none"))


def test_training_draws_no_batch_that_a_seed_gives_again(trainer_for: TrainerFor) -> None:
    secret = small_settings("privfedtalk", noise_multiplier=1.0, seeded_noise=None)
    seeded = small_settings("privfedtalk", noise_multiplier=1.0)

    def update(settings: TrainingSettings) -> np.ndarray:
        trainer = trainer_for(settings, "privfedtalk")
        return trainer.train("c0", Announcement(1, trainer.adapter.vector())).delta

    np.testing.assert_array_equal(update(seeded), update(seeded))
    assert np.abs(update(secret) - update(secret)).max() > 1e-6


def test_the_key_of_the_coins_is_the_coordinators_alone(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = small_settings("privfedtalk", noise_multiplier=1.0, seeded_noise=None)
    federate(trainer_for, "privfedtalk", settings, tmp_path / "f")
    path = tmp_path / "f" / "checkpoint" / "federation.json"
    kept = json.loads(path.read_text())["coins"]
    assert len(bytes.fromhex(kept)) == 32 and path.stat().st_mode & 0o077 == 0
    others = [file for file in (tmp_path / "f").rglob("*") if file.is_file() and file != path]
    assert others and not any(kept.encode() in file.read_bytes() for file in others)


def report_of(settings: TrainingSettings, records: list[RoundRecord]) -> str:
    return json.dumps(account("privfedtalk", settings, 1000, records, 100).to_json())


@pytest.mark.parametrize("sampling", ["poisson", "fixed", "allocation"])
def test_a_report_is_the_same_whoever_was_drawn(sampling: str) -> None:
    """What is published follows from the schedule and from noisy sums, and from no coin."""
    settings = settings_with(mode="central")
    federation = settings.federation.model_copy(update={"sampling": sampling, "clients_per_round": 2})
    settings = settings.model_copy(update={"federation": federation})

    def rounds(*drawn: list[str]) -> list[RoundRecord]:
        records = [round_record(number, clients=some) for number, some in enumerate(drawn, start=1)]
        return [replace(one, returned=one.clients, survivors=len(one.clients)) for one in records]

    second = ["c", "d"] if sampling == "allocation" else ["a", "b"]  # there each client is in one round of a block
    one, other = rounds(["a", "b"], second), rounds(["a", "c"], ["d", "e"])
    assert report_of(settings, one) == report_of(settings, other)


CENTRAL = PrivacySettings(mode="central", secure_aggregation=False, noise_multiplier=1.0, seeded_noise=0)
SAMPLED = Claim(CENTRAL, 0.02, "poisson", 300, 1e-5)
"""A fiftieth of the clients a round for 300 rounds: the claim is 2.2 with amplification, and far more without."""


@pytest.mark.parametrize("sampling", ["poisson", pytest.param("allocation", marks=pytest.mark.slow(minutes=0.2))])
def test_cohorts_recomputed_from_what_is_published_show_no_more_than_the_claim(sampling: Sampling) -> None:
    claim = replace(SAMPLED, sampling=sampling)
    found = audit(claim, AuditSettings(canaries=600, dimension=4000, seed=1))
    assert not found.flagged
    assert found.claimed_epsilon is not None
    assert found.recomputed.value <= found.claimed_epsilon
    # And the attack is no bluff: where cohorts do follow from the seed it refutes the claim.
    planted = audit(claim, AuditSettings(canaries=600, dimension=4000, seed=1, seeded_cohorts=True))
    assert planted.claimed_epsilon is not None
    assert planted.flagged and planted.recomputed.value > planted.claimed_epsilon == found.claimed_epsilon
