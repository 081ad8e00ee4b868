"""What a round hands on besides its noisy sum: no part of it, and figures that no round's own secrets enter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from tests.training.federation.test_secrecy import (
    CENTRAL,
    DISTRIBUTED,
    MODES,
    NAMES,
    OPEN,
    C,
    D,
    Z,
    aggregator_of,
    broken,
    contributions,
)
from training.federation.client.training import LocalUpdate
from training.federation.server.opening import RoundOutcome, next_clip_norm, next_denominator
from training.privacy.mechanisms.central_gaussian import CentralGaussian
from training.privacy.mechanisms.grid import STEPS_PER_CLIP, rounding_bound
from training.privacy.mechanisms.poisson_sampling import PoissonSampling
from training.privacy.mechanisms.release import adapted_clip_norm, isfa_weight
from training.settings.privacy import PrivacySettings


@pytest.mark.parametrize("settings", MODES, ids=NAMES)
def test_no_part_of_a_sum_is_handed_on_where_there_is_something_to_hide(settings: PrivacySettings) -> None:
    """Neither under masks nor where one aggregator is trusted with the sum. Without a promise all parts are."""
    aggregator = aggregator_of(settings)
    opened = aggregator.combine(contributions(aggregator, size=8), 1)
    assert list(opened.each) == list(aggregator.released(opened, 0.5).each) == [] and opened.extra == {}
    masked = aggregator_of(settings.model_copy(update={"mode": "none", "secure_aggregation": True}))
    update = LocalUpdate(np.full(8, 0.01, np.float32), 4, 0.5, {}, 0.0)
    sent = {f"c{k}": masked.contribute(f"c{k}", update, 1) for k in range(10)}
    assert list(masked.combine(sent, 1).each) == []
    bare = aggregator_of(settings.model_copy(update={"mode": "none", "secure_aggregation": False}))
    sent = {f"c{k}": bare.contribute(f"c{k}", update, 1) for k in range(10)}
    assert [len(vector) for _, vector in bare.combine(sent, 1).each] == [8] * 10


def test_the_clipping_norm_moves_only_where_that_is_paid_for() -> None:
    past = [RoundOutcome(5.0, 0.9), RoundOutcome(5.0, 0.7)]
    assert next_clip_norm(DISTRIBUTED, past) == C
    adaptive = DISTRIBUTED.model_copy(update={"adaptive_clipping": True})
    assert next_clip_norm(adaptive, []) == C
    once = adapted_clip_norm(C, 0.9, adaptive)
    assert next_clip_norm(adaptive, past) == adapted_clip_norm(once, 0.7, adaptive) != C


def test_the_divisor_is_a_public_number_and_no_rounds_own() -> None:
    past = [RoundOutcome(0.0, 0.5), RoundOutcome(0.1, 0.5)]
    assert next_denominator(DISTRIBUTED, 5, 10, past) == next_denominator(DISTRIBUTED, 5, 10, []) == 2.5
    lagged = DISTRIBUTED.model_copy(update={"denominator": "lagged"})
    assert next_denominator(lagged, 5, 10, []) == 2.5 > next_denominator(lagged, 5, 10, past) >= 1.25
    assert next_denominator(lagged, 5, 10, 50 * past) == 1.25, "noise that makes weights vanish makes no step explode"


def test_a_trusted_servers_noise_pays_for_the_rounding_that_masks_need() -> None:
    masked, bound = aggregator_of(CENTRAL).mechanism, C / math.sqrt(1 - CENTRAL.scalar_budget)
    assert isinstance(masked, CentralGaussian)
    for size in (1, D, 10**9):
        deviation = Z * (bound + rounding_bound(bound, masked.grid, size))
        assert masked.noise_on_sum(7, size) == masked.server_deviation(size) == pytest.approx(deviation)
        in_clear = aggregator_of(OPEN).mechanism
        assert isinstance(in_clear, CentralGaussian)
        assert in_clear.noise_on_sum(7, size) == in_clear.server_deviation(size) == pytest.approx(Z * bound)
    bare = aggregator_of(OPEN.model_copy(update={"mode": "none"})).mechanism
    assert bare.noise_on_sum(7, D) == bare.deviation == 0.0
    assert all(aggregator_of(one).contribute("c0", broken(size=8), 1).weight == 0.0 for one in MODES)


@pytest.mark.parametrize("settings", [DISTRIBUTED, CENTRAL, OPEN], ids=["distributed", *NAMES[2:]])
def test_only_rounds_under_poisson_sampling_hang_on_one_client(settings: PrivacySettings) -> None:
    """Ten were drawn, eight are the floor, and of nine seven would be too few."""
    poisson = PoissonSampling(population=20, expected=10.0)
    assert [aggregator_of(settings, 10, poisson).near_abort(came) for came in (7, 8, 9, 10)] == [
        False,
        True,
        False,
        False,
    ]
    assert not any(aggregator_of(settings, 10).near_abort(came) for came in range(11))
    assert not any(aggregator_of(settings, alone, poisson).near_abort(alone) for alone in (0, 1))


def test_few_answers_at_the_end_bring_a_poisson_round_near_and_few_clients_are_no_error_in_it() -> None:
    """Six of ten answers are the threshold; of nine five would be too few."""
    poisson = PoissonSampling(population=20, expected=10.0)
    for silent, near in ((4, True), (3, False)):
        aggregator = aggregator_of(DISTRIBUTED, 10, poisson)
        sent = contributions(aggregator, size=8)
        seen = aggregator.combine(sent, 1, {"unmask": set(list(sent)[:silent])})
        assert len(seen.returned) == 10 and aggregator.near_abort(10) == near
    colluding = DISTRIBUTED.model_copy(update={"tolerated_colluders": 2})
    assert [aggregator_of(colluding, cohort, poisson).survivors for cohort in (1, 2)] == [1, 2]


@pytest.mark.parametrize("settings", MODES, ids=NAMES)
def test_a_client_weighs_by_the_rule_and_adds_noise_where_clients_do(settings: PrivacySettings) -> None:
    aggregator, update = aggregator_of(settings), LocalUpdate(np.full(8, 0.01, np.float32), 4, 0.5, {}, 0.0)
    assert aggregator.contribute("c0", update, 1).weight == isfa_weight(4, 0.5, settings.n_max, settings.gamma) > 0
    assert (aggregator.mechanism.terms.share_variance > 0) == (settings.mode == "distributed")
    assert settings.mode == "distributed" or aggregator.mechanism.grid == C / STEPS_PER_CLIP
    with pytest.raises(PrivFedTalkError, match="names mood, which no client measures"):
        aggregator_of(settings.model_copy(update={"metrics": ("score", "mood")}))
