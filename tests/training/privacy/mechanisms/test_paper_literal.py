"""The paper's formulas as they stand: equal to them term by term, and never called private."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from common.errors import PrivFedTalkError
from tests.training.privacy_records import round_record, using
from tests.training.small_federation import CLIENTS, TrainerFor, federate, settings_with
from training.claims.account import account
from training.claims.verification import contradictions
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods import configure
from training.federation.server.aggregation import Aggregator
from training.federation.server.spending import epsilon_so_far
from training.privacy.accounting.plan import plan
from training.privacy.accounting.schedule import Schedule
from training.privacy.mechanisms import paper_literal, release
from training.privacy.mechanisms.noise import noise_generator
from training.settings import FederationSettings, TrainingSettings
from training.settings.privacy import NO_PROOF, PrivacySettings

LITERAL = PrivacySettings(
    mode=NO_PROOF, secure_aggregation=False, clip_norm=0.7, noise_multiplier=0.4, gamma=0.5, n_max=4, seeded_noise=3
)


def updates_of(generator: np.random.Generator, d: int) -> dict[str, LocalUpdate]:
    """Clients on either side of C and of n_max, whose weights differ widely."""
    scales, counts, scores = (0.01, 0.5, 0.05, 0.2), (2, 9, 30, 1), (0.9, 0.2, 1.0, 0.55)
    return {
        f"c{i}": LocalUpdate((scale * generator.normal(size=d)).astype(np.float32), n, s, {}, 0.0)
        for i, (scale, n, s) in enumerate(zip(scales, counts, scores, strict=True))
    }


def test_a_round_is_the_papers_formula_term_by_term() -> None:
    d, C, sigma, gamma = 60, 0.7, 0.4, 0.5
    updates = updates_of(np.random.default_rng(0), d)
    aggregator = Aggregator(LITERAL, cohort=4, seed=5, clip_norm=C, denominator=123.0)
    sent = {client: aggregator.contribute(client, update, 7) for client, update in updates.items()}
    aggregate = aggregator.combine(sent, 7)
    released = aggregator.released(aggregate, share=1.0)

    noisy, weights = {}, {}
    for client, update in updates.items():
        delta = update.delta.astype(np.float64)
        noise = noise_generator(3, 5, client, 7).normal(0, sigma * C, d)
        noisy[client] = delta * np.minimum(1, C / np.linalg.norm(delta)) + noise
        weights[client] = update.clips * math.exp(gamma * update.score)
    expected = sum(weights[client] * noisy[client] for client in updates) / sum(weights.values())
    np.testing.assert_allclose(released.total / released.denominator, expected, rtol=1e-6, atol=1e-7)
    # No factor is left over: eta alone scales the step, whatever the public denominator would have been.
    theta = release.server_step(np.zeros(d), released.total, 0.5, released.denominator)
    np.testing.assert_allclose(theta, 0.5 * expected, rtol=1e-6, atol=1e-7)
    shares = [paper_literal.paper_weight(u.clips, u.score, gamma) for u in updates.values()]
    np.testing.assert_allclose(np.array(shares) / sum(shares), np.array([*weights.values()]) / sum(weights.values()))
    assert aggregate.total.metrics["score"] == pytest.approx(sum(u.score for u in updates.values()))
    assert aggregate.total.within_clip == sum(np.linalg.norm(u.delta) <= C for u in updates.values()) == 2
    assert all(sent[client].vector[-3] == update.clips for client, update in updates.items())  # in clear


def test_one_clients_scalars_move_the_others_terms() -> None:
    """What has no bound: the part of all others moves by far more than C, because one client says that it has much."""
    d = 50
    updates = updates_of(np.random.default_rng(1), d)
    quiet = LITERAL.model_copy(update={"noise_multiplier": 0.0})

    def mean(changed: dict[str, LocalUpdate]) -> np.ndarray:
        aggregator = Aggregator(quiet, 4, 5, quiet.clip_norm, 1.0)
        total = aggregator.combine({name: aggregator.contribute(name, one, 1) for name, one in changed.items()}, 1)
        return total.total.update / total.total.weight

    silent = LocalUpdate(np.zeros(d, np.float32), 0, 0.0, {}, 0.0)
    loud = LocalUpdate(np.zeros(d, np.float32), 10**6, 1.0, {}, 0.0)
    others_alone, drowned = mean({**updates, "c0": silent}), mean({**updates, "c0": loud})
    assert np.linalg.norm(drowned) < 1e-4 * np.linalg.norm(others_alone)


def test_broken_updates_and_scores_weigh_nothing() -> None:
    updates = updates_of(np.random.default_rng(2), 20)
    broken = LocalUpdate(np.full(20, np.nan, np.float32), 5, math.nan, {}, 0.0)
    aggregator = Aggregator(LITERAL, 5, 5, 0.7, 1.0)
    sent = {name: aggregator.contribute(name, one, 1) for name, one in {**updates, "broken": broken}.items()}
    assert sent["broken"].weight == 0 and np.isfinite(sent["broken"].vector).all()
    with_it, without = (aggregator.combine({n: sent[n] for n in names}, 1).total for names in (sent, updates))
    np.testing.assert_array_equal(with_it.update, without.update)
    assert with_it.weight == without.weight
    unsure = LocalUpdate(updates["c0"].delta, 2, math.nan, {}, 0.0)
    assert aggregator.contribute("c0", unsure, 1).weight == pytest.approx(2 * math.exp(-0.5))


def test_secure_aggregation_cannot_carry_its_scalars() -> None:
    with pytest.raises(ValidationError, match="by themselves, which a hidden sum does not show"):
        PrivacySettings(mode=NO_PROOF)
    with pytest.raises(PrivFedTalkError, match="leave secure_aggregation out of"):
        configure("paper_literal", TrainingSettings(components={"paper_literal": ("isfa", "dp", "secure_aggregation")}))


def test_the_method_is_the_mode_and_its_parts_go_off() -> None:
    settings = settings_with("paper_literal", noise_multiplier=0.3)
    assert (settings.privacy.mode, settings.privacy.secure_aggregation) == (NO_PROOF, False)
    assert settings.privacy.gamma > 0 and settings.objective.tdc_weight > 0
    assert PrivacySettings(**settings.privacy.model_dump()) == settings.privacy
    quiet = configure("paper_literal", TrainingSettings(components={"paper_literal": ("isfa", "tdc")}))
    assert quiet.privacy.mode == "none"


def test_a_federation_runs_by_it_and_is_never_called_private(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("paper_literal", noise_multiplier=50.0, seeded_noise=None)  # noise as strong as you like
    quiet = settings_with("paper_literal", seeded_noise=None)
    result = federate(trainer_for, "paper_literal", settings, tmp_path / "f", rounds=2)
    assert [record.outcome for record in result.records] == ["applied", "applied"]
    assert {record.epsilon_release for record in result.records} == {None}
    assert result.records[0].bytes_up == 4 * len(CLIENTS) * (len(result.theta) + 3)
    trainer = trainer_for(quiet, "paper_literal")
    theta = trainer.adapter.vector()
    updates = [trainer.train(client, Announcement(1, theta)) for client in CLIENTS]
    weights = [one.clips * math.exp(0.5 * one.score) for one in updates]
    clipped = [one.delta * np.minimum(1, 0.05 / np.linalg.norm(one.delta)) for one in updates]
    step = sum(w * delta for w, delta in zip(weights, clipped, strict=True)) / sum(weights)
    once = federate(trainer_for, "paper_literal", quiet, tmp_path / "quiet", rounds=1)
    np.testing.assert_allclose(once.theta, theta + step, atol=1e-6)

    report = account("paper_literal", settings, len(CLIENTS), result.records, len(theta))
    assert (report.private, report.guarantee_holds, report.epsilon_release, report.epsilon_server) == (
        False, False, None, None,
    )  # fmt: skip
    text = report.to_markdown()
    assert report.mark.startswith("NOT PRIVATE: The paper's formulas") and "no client-level proof" in text
    assert "clip count and score, in clear" in text and "none travels in clear" not in text


def test_no_report_can_claim_an_epsilon_for_it() -> None:
    settings = TrainingSettings(federation=FederationSettings(rounds=1), privacy=LITERAL)
    records = using(settings, [round_record(1, clip_norm=0.7)], dimension=100)
    assert epsilon_so_far(settings, 10, records, 100) == (None, None)
    honest = json.loads(json.dumps(account("paper_literal", settings, 10, records, 100).to_json()))
    assert contradictions("paper_literal", honest, records) == []
    better = {**honest, "private": True, "guarantee_holds": True, "epsilon_release": 1.0, "violations": []}
    found = " ".join(contradictions("paper_literal", better, records))
    assert "epsilon_release is 1 in the report, and inf" in found and "called private, which it is not" in found
    with pytest.raises(PrivFedTalkError, match="a plan for mode 'local_no_proof'"):
        plan(Schedule(10, 10, 5, "full"), 1.0, LITERAL, 1000)
