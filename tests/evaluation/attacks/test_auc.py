"""AUC and its intervals against scipy, DeLong's variance and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.attacks.auc import area, area_within_runs, auc, newcombe

NUMBERS = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(NUMBERS, NUMBERS)
def test_auc_is_mann_and_whitneys_and_every_pair_counted(members: list[float], others: list[float]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    value = auc(np.array(members), np.array(others))
    assert value == pytest.approx(np.mean(pairs))
    U = stats.mannwhitneyu(members, others).statistic
    assert value == pytest.approx(U / (len(members) * len(others)))


@given(NUMBERS, NUMBERS)
def test_the_interval_holds_the_value_has_a_width_and_mirrors(members: list[float], others: list[float]) -> None:
    there, back = (area(np.array(a), np.array(b)) for a, b in ((members, others), (others, members)))
    assert 0 <= there.low <= there.value <= there.high <= 1
    assert there.high - there.low > 0.1
    assert (1 - back.high, 1 - back.low) == pytest.approx((there.low, there.high), abs=1e-9)


def test_right_about_a_few_people_is_no_proof() -> None:
    assert not area(np.array([1.0, 2.0]), np.array([0.0, 0.5])).finds_members
    assert area(np.arange(10.0, 20.0), np.arange(10.0)).finds_members


def test_with_many_people_it_is_delongs() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(0.8, 1, 600), rng.normal(0, 1, 500)
    found = area(members, others)
    # DeLong's variance: that of each person's share of won pairs.
    wins = members[:, None] > others[None, :]
    deviation = np.sqrt(wins.mean(1).var(ddof=1) / 600 + wins.mean(0).var(ddof=1) / 500)
    assert found.low == pytest.approx(found.value - 1.96 * deviation, abs=0.004)
    assert found.high == pytest.approx(found.value + 1.96 * deviation, abs=0.004)


@pytest.mark.parametrize(("shift", "m", "n"), [(0.0, 8, 4), (1.0, 8, 8), (2.0, 6, 12)])
def test_it_covers_the_truth_for_a_handful(shift: float, m: int, n: int) -> None:
    rng, truth = np.random.default_rng(1), stats.norm.cdf(shift / np.sqrt(2))
    values = [auc(rng.normal(shift, 1, m), rng.normal(0, 1, n)) for _ in range(1500)]
    ends = {value: newcombe(value, m, n) for value in set(values)}
    assert np.mean([ends[value][0] <= truth <= ends[value][1] for value in values]) > 0.93


def test_within_one_run_it_is_the_runs_own() -> None:
    rng = np.random.default_rng(2)
    scores, included = rng.normal(size=(1, 30)), rng.random((1, 30)) < 0.5
    found = area_within_runs(scores, included, seed=0)
    assert found.value == pytest.approx(auc(scores[included], scores[~included]))


def test_right_about_everybody_in_every_run_is_still_about_so_many_people() -> None:
    included = np.tile([[True, False], [False, True]], (4, 6))
    found = area_within_runs(included.astype(np.float64), included, seed=0)
    assert found.value == 1.0
    assert (found.low, found.high) == newcombe(1.0, 6, 6)
    lost = area_within_runs(1 - included.astype(np.float64), included, seed=0)
    assert (lost.value, lost.low) == (0.0, 0.0) and lost.high == pytest.approx(1 - found.low)


def test_people_who_score_high_in_every_run_are_not_found() -> None:
    """The same people always score high, in and out: over pairs of a half and the other half it is a guess."""
    rng = np.random.default_rng(3)
    half = rng.random((6, 24)) < 0.5
    included = np.concatenate([half, ~half])
    persons = rng.normal(size=24) * 5
    fixed = area_within_runs(np.tile(persons, (12, 1)) + 0.01 * rng.normal(size=(12, 24)), included, seed=0)
    assert fixed.value == pytest.approx(0.5, abs=0.02) and not fixed.finds_members
    found = area_within_runs(2 * included + rng.normal(size=(12, 24)), included, seed=0)
    assert found.finds_members and found.low < stats.norm.cdf(2 / np.sqrt(2)) < found.high
