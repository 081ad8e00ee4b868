"""Poisson sampling: nothing that is released, but for what the theorem counts, tells who or how many were drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator
from training.federation.server.checks import norm_allowed
from training.privacy.mechanisms.poisson_sampling import RARE_COHORT, PoissonSampling
from training.privacy.mechanisms.release import RoundSum
from training.privacy.secure_aggregation.in_process import DropStage
from training.privacy.secure_aggregation.messages import RoundAbortedError
from training.settings.privacy import PrivacySettings

POISSON = PrivacySettings(mode="distributed", noise_multiplier=0.5, seeded_noise=3, survivor_floor=0.8)


def released_sum(came: int, settings: PrivacySettings = POISSON, dimension: int = 20_000) -> RoundSum:
    """The sum over `came` of 20 clients, each drawn by itself, whose updates are all zero: noise and scalars alone."""
    poisson = PoissonSampling(population=20, expected=10.0)
    aggregator = Aggregator(settings, came, 0, settings.clip_norm, 5.0, poisson)
    update = LocalUpdate(np.zeros(dimension, np.float32), 4, 0.5, {}, 0.0)
    if not came:
        alone = aggregator.noise_alone(dimension, 1)
        assert alone is not None
        return alone.total
    sent = {f"c{n}": aggregator.contribute(f"c{n}", update, 1) for n in range(came)}
    return aggregator.combine(sent, 1).total


def test_the_noise_does_not_tell_how_many_were_drawn() -> None:
    """A variance read off 100,000 coordinates would give the cohort's size away, and with it more than the theorem of
    Poisson sampling counts: shares that follow the cohort are filled up to one amount."""
    deviations = [released_sum(came).update.std() for came in (0, 1, 9, 10, 11, 16)]
    assert max(deviations) / min(deviations) < 1.04  # 20,000 draws: three standard errors on either side
    round_of_ten = Aggregator(POISSON, 10, 0, POISSON.clip_norm, 5.0, PoissonSampling(20, 10.0))
    assert np.mean(deviations) == pytest.approx(round_of_ten.mechanism.noise_on_sum(10), rel=0.01)
    # 10 of 8 shares counted on: a quarter more variance
    assert min(deviations) > 1.09 * round_of_ten.mechanism.deviation


@pytest.mark.parametrize("colluders", [0, 1, 2, 4])
@pytest.mark.parametrize("cap", [None, 2])
def test_whether_a_round_opens_and_its_noise_do_not_depend_on_the_draw(colluders: int, cap: int | None) -> None:
    """Cohorts down to one client, fewer than the colluders who are tolerated among them: each client's share is then
    the whole noise, and the server fills all sums up to the same."""
    settings = POISSON.model_copy(update={"tolerated_colluders": colluders, "max_participation": cap})
    poisson, update = (
        PoissonSampling(population=6, expected=3.0),
        LocalUpdate(np.zeros(10_000, np.float32), 4, 0.5, {}, 0.0),
    )
    deviations = []
    for came in range(1, 7):
        aggregator = Aggregator(settings, came, 0, 1.0, 5.0, poisson)
        sent = {f"c{n}": aggregator.contribute(f"c{n}", update, 1) for n in range(came)}
        deviations.append(aggregator.combine(sent, 1).total.update.std() / aggregator.mechanism.noise_on_sum(came))
        told = min(colluders, came - 1)
        share = aggregator.mechanism.terms.share_variance * aggregator.mechanism.grid**2
        honest = (aggregator.survivors - told) * share
        assert honest >= aggregator.mechanism.deviation**2 * (1 - 1e-12)
        assert not aggregator.near_abort(came)
    assert np.abs(np.array(deviations) - 1).max() < 0.035  # 10,000 draws: five standard errors
    mechanisms = {came: Aggregator(settings, came, 0, 1.0, 5.0, poisson).mechanism for came in range(7)}
    assert len({mechanism.noise_on_sum(came) for came, mechanism in mechanisms.items()}) == 1


def test_the_filling_covers_all_cohorts_but_the_rarest() -> None:
    for population, expected in ((1000, 2.0), (1000, 300.0), (6, 5.9), (10**6, 50.0)):
        sizes = PoissonSampling(population, expected).cohorts(capped=False)
        drawn = stats.binom(population, expected / population)
        # An empty round is noise alone, and carries the same as any.
        missed = drawn.cdf(sizes[0] - 1) - (drawn.pmf(0) if sizes[0] == 1 else 0) + drawn.sf(sizes[-1])
        assert missed <= RARE_COHORT
        assert len(sizes) < 60 * np.sqrt(expected) + 20
        # Where clients that reached a cap sit out, cohorts of any smaller size occur.
        assert PoissonSampling(population, expected).cohorts(capped=True) == range(1, sizes.stop)


def test_with_a_cap_small_cohorts_carry_the_same_noise_too() -> None:
    """Towards its end most clients sit out, and a cohort may be of any size below the usual ones."""
    capped = POISSON.model_copy(update={"max_participation": 3, "tolerated_colluders": 1})
    poisson = PoissonSampling(1000, 300.0)
    aggregator = Aggregator(capped, 300, 0, 1.0, 5.0, poisson)
    sizes = poisson.cohorts(capped=True)
    most = max(m / (capped.minimum_survivors(m) - capped.colluders_among(m)) for m in sizes)
    assert sizes[0] == 1 and most == 2.0
    assert aggregator.mechanism.noise_on_sum(300) == pytest.approx(aggregator.mechanism.deviation * np.sqrt(most))
    free = Aggregator(capped.model_copy(update={"max_participation": None}), 300, 0, 1.0, 5.0, poisson)
    assert free.mechanism.noise_on_sum(300) < 0.85 * aggregator.mechanism.noise_on_sum(300)


def test_every_cohort_without_dropouts_opens_and_one_client_less_in_it_too() -> None:
    for colluders in range(6):
        settings = PrivacySettings(tolerated_colluders=colluders)
        floors = [settings.minimum_survivors(n) for n in range(1, 200)]
        assert all(later - earlier in (0, 1) for earlier, later in pairwise(floors))


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_whether_a_round_is_taken_back_does_not_depend_on_how_many_came(mode: str) -> None:
    allowed = set()
    for came in range(0, 17):
        aggregator = Aggregator(POISSON.model_copy(update={"mode": mode}), came, 0, 1.0, 5.0, PoissonSampling(20, 10.0))
        allowed.add(norm_allowed(RoundSum(np.zeros(1000), 0.0, 0.0, {}, came), aggregator.mechanism))
    assert len(allowed) == 1


def _opens(cohort: int, came: int, drop: dict[DropStage, set[str]] | None = None) -> bool | None:
    """Whether a real round opens; None: it does, and says that it was near not to."""
    if not cohort:
        return True
    aggregator = Aggregator(POISSON, cohort, 0, 1.0, 5.0, PoissonSampling(20, 10.0))
    update = LocalUpdate(np.zeros(3, np.float32), 4, 0.5, {}, 0.0)
    try:
        seen = aggregator.combine({f"c{n}": aggregator.contribute(f"c{n}", update, 1) for n in range(came)}, 1, drop)
    except RoundAbortedError as abandoned:
        assert not aggregator.near_abort(abandoned.left)
        return False
    return None if aggregator.near_abort(len(seen.returned)) else True


def test_rounds_that_one_client_less_would_not_have_opened_are_known() -> None:
    near = set()
    for cohort in range(1, 13):
        for came in range(cohort + 1):
            opened = _opens(cohort, came)
            if opened is not False:
                without = _opens(cohort - 1, came - 1)
                assert (opened is None) == (without is False), (cohort, came)
                near |= {(cohort, came)} if opened is None else set()
    assert near == {(5, 4), (10, 8)}  # the floor of four is four, of nine eight


def test_few_answers_at_the_end_bring_a_round_near_too() -> None:
    """Ten vectors, six answers, which is the threshold: with nine vectors and five answers nothing opens."""
    silent: dict[DropStage, set[str]] = {"unmask": {f"c{n}" for n in range(6, 10)}}
    assert _opens(10, 10, silent) is None
    assert _opens(9, 9, {"unmask": {f"c{n}" for n in range(5, 9)}}) is False
    assert _opens(10, 10, {"unmask": {f"c{n}" for n in range(7, 10)}}) is True


def test_scalars_are_read_by_the_expected_number() -> None:
    """What moves the next round's C and D in the open must not show how many came: with equal noise, equal figures."""
    quiet = POISSON.model_copy(update={"mode": "central", "noise_multiplier": 1e-9, "secure_aggregation": False})
    few, many = (released_sum(came, quiet, 10) for came in (5, 15))
    centred = few.weight - 0.5 * 10
    assert many.weight - 0.5 * 10 == pytest.approx(3 * centred, abs=1e-3)
