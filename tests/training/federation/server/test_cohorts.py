"""Cohorts: their sizes and rates, who sits out, and that the accounting is of what was drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from tests.training.small_federation import CLIENTS, TrainerFor, federate, settings_with
from training.claims.account import account
from training.claims.verification import contradictions
from training.federation.server.checkpoint import Outcome, RoundRecord
from training.federation.server.cohorts import (
    draw_cohort,
    last_counted,
    participation,
    sample_clients,
)
from training.federation.server.opening import open_round
from training.federation.server.spending import epsilon_so_far, planned_schedule, schedule_of
from training.privacy.accounting.coins import Coins
from training.privacy.accounting.epsilon import epsilon_release, epsilon_server
from training.privacy.accounting.schedule import Schedule
from training.settings import FederationSettings, TrainingSettings
from training.settings.privacy import PrivacySettings

MANY = [f"c{i}" for i in range(20)]
Drawn = Literal["fixed", "poisson", "allocation"]
Sums = tuple[float | None, float | None, float | None]


def sampled(sampling: Drawn, per_round: int | None) -> FederationSettings:
    return FederationSettings(sampling=sampling, clients_per_round=per_round)


def record(
    number: int, clients: list[str], outcome: Outcome = "applied", returned: list[str] | None = None
) -> RoundRecord:
    returned = clients if returned is None else returned
    sums: Sums = (1.0, 1.0, 0.5) if returned else (None, None, None)
    seconds: dict[str, float] = {}
    return RoundRecord(
        number, clients, len(returned), 1.0, *sums, 0.1, 1.0, 1.0, 0, 0, seconds, outcome=outcome, returned=returned
    )


def test_fixed_size_cohorts() -> None:
    cohorts = [sample_clients(MANY, sampled("fixed", 5), Coins(1), n) for n in range(200)]
    assert all(len(set(cohort)) == 5 for cohort in cohorts)
    counts = np.array([sum(c in cohort for cohort in cohorts) for c in MANY])
    assert counts.min() > 25
    assert sample_clients(MANY, sampled("fixed", 5), Coins(1), 3) == cohorts[3]


def test_poisson_cohorts_are_independent_coins() -> None:
    cohorts = [sample_clients(MANY, sampled("poisson", 5), Coins(1), n) for n in range(4000)]
    joined = np.array([[client in cohort for client in MANY] for cohort in cohorts], float)
    np.testing.assert_allclose(joined.mean(0), 0.25, atol=0.04)
    # Sizes have the binomial's variance, 20 q (1 - q) = 3.75, which no dependence between clients would leave.
    assert joined.sum(1).var() == pytest.approx(3.75, rel=0.1)
    assert min(map(len, cohorts)) == 0
    assert sample_clients(MANY, sampled("poisson", 5), Coins(1), 3) == cohorts[3]


def test_allocated_cohorts_hold_everybody_once_in_each_block() -> None:
    drawn = [sample_clients(MANY, sampled("allocation", 5), Coins(1), n) for n in range(1, 4001)]
    assert all(sorted(chain(*drawn[start : start + 4])) == sorted(MANY) for start in range(0, 4000, 4))
    joined = np.array([[client in cohort for client in MANY] for cohort in drawn], float)
    np.testing.assert_allclose(joined.mean(0), 0.25)
    # Each place of a block is as likely as the others, and clients are independent: sizes have the binomial's variance.
    np.testing.assert_allclose(joined.reshape(1000, 4, 20).mean((0, 2)), 0.25, atol=0.02)
    assert joined.sum(1).var() == pytest.approx(3.75, rel=0.1)
    assert min(map(len, drawn)) == 0
    # Five clients of 18 at most in a round, on average, take four rounds.
    assert sum(len(sample_clients(MANY[:18], sampled("allocation", 5), Coins(1), n)) for n in (1, 2, 3, 4)) == 18


def test_a_rounds_sum_is_divided_by_as_many_clients_as_come_on_average() -> None:
    """Seven of ten at most make blocks of two rounds, and five clients a round."""
    means: dict[Drawn, float] = {"allocation": 5.0, "poisson": 7.0, "fixed": 7.0}
    for sampling, mean in means.items():
        settings = run_settings(sampling, 7)
        assert planned_schedule(settings, 10).mean_cohort == mean
        assert open_round(settings, 7, 10, [], 0).denominator == pytest.approx(mean * settings.privacy.mean_weight)


def test_a_repeated_round_of_a_block_has_the_same_cohort() -> None:
    coins = Coins.toss(PrivacySettings(), seed=0)
    attempts = [sample_clients(MANY, sampled("allocation", 5), coins, 3, attempt) for attempt in (1, 2, 3)]
    assert attempts[0] == attempts[1] == attempts[2]
    others = Coins.toss(PrivacySettings(), seed=0)
    assert attempts[0] != sample_clients(MANY, sampled("allocation", 5), others, 3)


@pytest.mark.parametrize("sampling", ["fixed", "poisson", "allocation"])
def test_everybody_is_everybody(sampling: Drawn) -> None:
    assert sample_clients(MANY, sampled(sampling, None), Coins(1), 1) == MANY
    assert sample_clients(MANY, sampled(sampling, 30), Coins(1), 1) == MANY


@pytest.mark.parametrize("sampling", ["fixed", "poisson", "allocation"])
def test_whoever_has_reached_the_cap_sits_out_and_nobody_takes_the_place(sampling: Drawn) -> None:
    settings = sampled(sampling, 10)
    past = [record(1, MANY[:7]), record(2, MANY[:7])]
    free = sample_clients(MANY, settings, Coins(1), 3)

    def drawn(clients: list[str], cap: int, lost: Sequence[Sequence[str]] = ()) -> list[str]:
        return draw_cohort(clients, settings, cap, past, Coins(1), lost)

    assert drawn(MANY, 2) == [client for client in free if client not in MANY[:7]]
    assert drawn(MANY, 3) == free
    # A sum that an interruption lost may have been seen, and counts.
    assert drawn(MANY, 3, [MANY[:3]]) == [client for client in free if client not in MANY[:3]]
    with pytest.raises(PrivFedTalkError, match="taken part 2 times"):
        drawn(MANY[:7], 2)


def test_what_counts_as_taking_part() -> None:
    """A sum that was seen costs privacy though it was taken back; only what entered theta moves a client's state."""
    past = [
        record(1, ["a", "b"]),
        record(2, ["a", "b"], "rolled back"),
        record(3, ["a", "b"], "aborted", []),
        record(4, ["a", "b"], returned=["b"]),
    ]
    assert participation(past) == {"a": 2, "b": 3}
    assert last_counted(["a", "b", "c"], past) == {"a": 1, "b": 4}


def run_settings(sampling: Drawn, per_round: int | None, mode: str = "central") -> TrainingSettings:
    settings = settings_with("privfedtalk", mode=mode, noise_multiplier=1.0)
    return settings.model_copy(update={"federation": sampled(sampling, per_round)})


@pytest.mark.parametrize(
    ("sampling", "per_round", "rounds", "theorem"),
    [
        ("fixed", 5, 4, "RDP (sampling without replacement)"),
        ("poisson", 5, 4, "PLD (Poisson)"),
        ("allocation", 5, 4, "PLD (random allocation)"),
        ("poisson", None, 2, "exact Gaussian composition"),
    ],
)
def test_each_sampling_has_its_own_theorem(sampling: Drawn, per_round: int | None, rounds: int, theorem: str) -> None:
    """Where all take part only what was opened counts; where clients are drawn, every draw does."""
    past = [
        record(1, MANY[:5]),
        record(2, MANY[:5], "rolled back"),
        record(3, MANY[:5], "aborted", []),
        record(4, [], "aborted"),
    ]
    settings = run_settings(sampling, per_round)
    assert schedule_of(settings, 1000, past).rounds == rounds
    report = account("privfedtalk", settings, 1000, past, dimension=100)
    assert report.accountant_release == theorem
    assert any("taken back" in sentence for sentence in report.assumptions)
    schedule = Schedule(1000, per_round or 1000, rounds, sampling if per_round else "full")
    expected = epsilon_release(schedule, 1.0, 1e-5).value
    assert report.epsilon_release == pytest.approx(expected)
    # Two opened sums held c0: the coordinator knows, and no report says, for what it says follows from the draws alone.
    most = epsilon_server(schedule, 1.0, 1e-5, participation=2).value
    assert epsilon_so_far(settings, 1000, past, 100) == (report.epsilon_release, most)
    assert report.participation == schedule.participation_but_for(5e-6)
    others = [replace(each, clients=MANY[5:10], returned=MANY[5:10] if each.returned else []) for each in past]
    assert account("privfedtalk", settings, 1000, others, dimension=100) == report


def with_sampling(sampling: Drawn, settings: TrainingSettings) -> TrainingSettings:
    federation = settings.federation.model_copy(update={"sampling": sampling, "clients_per_round": 1})
    return settings.model_copy(update={"federation": federation})


def with_poisson(settings: TrainingSettings) -> TrainingSettings:
    return with_sampling("poisson", settings)


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_an_empty_cohort_releases_noise_and_nothing_else(trainer_for: TrainerFor, tmp_path: Path, mode: str) -> None:
    """As Poisson sampling's theorem demands: the absence of everybody must not show."""
    settings = with_poisson(settings_with("privfedtalk", mode=mode, noise_multiplier=1.0))
    result = federate(trainer_for, "privfedtalk", settings, tmp_path / "f", rounds=8)
    empty = [r for r in result.records if not r.clients]
    assert empty
    assert [r.survivors for r in result.records] == [len(r.clients) for r in result.records]
    assert all(r.applied and r.denominator == pytest.approx(0.5) for r in result.records)
    assert any(len(r.clients) == 1 for r in result.records), "one client is hidden by its own noise"
    privacy = settings.privacy
    deviation = 0.05 / np.sqrt(1 - privacy.scalar_budget) / 0.5
    for each in empty:
        assert each.update_norm == pytest.approx(deviation * np.sqrt(len(result.theta)), rel=0.05)
        assert None not in (each.score_mean, each.within_clip, each.weight_sum), "scalars are read as of any round"
        assert each.bytes_up == each.bytes_down == 0


def test_an_allocated_federation_takes_everybody_once_a_block_and_its_report_verifies(
    trainer_for: TrainerFor, tmp_path: Path
) -> None:
    settings = with_sampling("allocation", settings_with("privfedtalk", mode="central", noise_multiplier=1.0))
    records = federate(trainer_for, "privfedtalk", settings, tmp_path / "f", rounds=6).records
    for block in (records[:3], records[3:]):
        assert sorted(chain(*(record.clients for record in block))) == CLIENTS
    assert all(record.applied and record.denominator == pytest.approx(0.5) for record in records)
    dimension = records[0].mechanism["dimension"]
    report = account("privfedtalk", settings, 3, records, dimension)
    assert (report.participation, report.accountant_release) == (2, "PLD (random allocation)")
    assert report.epsilon_release is not None and report.epsilon_server is not None
    assert report.epsilon_release < report.epsilon_server
    told = report.to_markdown()
    assert "one client takes part in at most 2 |" in told, "which is certain"
    assert "Each client joins one round, drawn at random, of every 3." in told
    assert contradictions("privfedtalk", json.loads(json.dumps(report.to_json())), records) == []
    # A client that was in two rounds of a block has shown itself twice, which no theorem here counts.
    twice = [replace(record, clients=CLIENTS[:1], returned=CLIENTS[:1]) for record in records]
    broken = account("privfedtalk", settings, 3, twice, dimension).violations
    assert any("Rounds 2, 3, 5, 6 took a client that an earlier round of the same block" in line for line in broken)


def test_an_empty_cohort_without_noise_leaves_everything(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = with_poisson(settings_with("fedavg"))
    records = federate(trainer_for, "fedavg", settings, tmp_path / "f", rounds=8).records
    empty = [r for r in records if not r.clients]
    assert empty
    assert all(r.outcome == "empty" and r.update_norm == 0 for r in empty)
    assert {len(r.clients) for r in records} > {0}
    assert all(set(r.clients) <= set(CLIENTS) for r in records)


def test_a_sum_over_one_is_not_opened_where_no_noise_hides_it(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = with_poisson(settings_with("privfedtalk", mode="none"))
    for each in federate(trainer_for, "privfedtalk", settings, tmp_path / "f", rounds=8).records:
        assert each.outcome == {0: "empty", 1: "aborted"}.get(len(each.clients), "applied")
