"""The plan's noise reaches the target and little more, and costs what it says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import PrivFedTalkError
from training.privacy.accounting import epsilon as accounting
from training.privacy.accounting.guarantee import epsilons
from training.privacy.accounting.plan import Cost, plan
from training.privacy.accounting.schedule import Schedule
from training.privacy.mechanisms import release
from training.settings.privacy import Mode, PrivacySettings

CASES = [
    ("central", Schedule(1000, 10, 50), 4.0),
    ("central", Schedule(1000, 10, 50, "fixed"), 4.0),
    ("central", Schedule(60, 60, 20, "full"), 8.0),
    ("distributed", Schedule(1000, 10, 50), 1.0),
    ("distributed", Schedule(1000, 10, 50, "fixed", max_participation=3), 8.0),
    ("distributed", Schedule(60, 60, 20, "full"), 1.0),
]


@pytest.mark.parametrize(("mode", "schedule", "target"), CASES)
def test_the_answer_accounted_again_is_the_target_but_for_one_percent(
    mode: Mode, schedule: Schedule, target: float
) -> None:
    settings = PrivacySettings(mode=mode, delta=schedule.clients**-1.1)
    made = plan(schedule, target, settings, 10_000, factors=())
    again = epsilons(settings, schedule, 10_000, schedule.clients**-1.1, noise_multiplier=made.noise_multiplier)
    assert 0.99 * target <= again[0].value <= target
    assert (made.release, made.server) == again


@pytest.mark.slow(minutes=0.1)
def test_a_second_library_agrees() -> None:
    settings = PrivacySettings(mode="central", delta=1000**-1.1)
    made = plan(Schedule(1000, 10, 1000), 1.27, settings, 1000, factors=())
    assert made.noise_multiplier == pytest.approx(1.0, rel=0.01)  # the reference table's row
    prv = accounting.poisson_prv(0.01, made.noise_multiplier, 1000, made.delta, eps_error=0.01)
    assert abs(prv - 0.01 - 1.27) < 0.02


def test_the_servers_epsilon_can_be_the_target() -> None:
    schedule = Schedule(1000, 10, 100, "fixed")
    made = plan(schedule, 60.0, PrivacySettings(mode="central"), 1000, reader="server", factors=())
    assert 59.4 <= made.server.value <= 60 and made.release.value <= made.server.value
    assert made.typical_participation == 1 and made.server_typical.value < made.server.value


def test_the_cost_is_that_of_vectors_really_summed() -> None:
    settings, d, m, z = PrivacySettings(mode="central", mean_weight=0.5, gamma=0.0, n_max=2), 20_000, 8, 0.3
    direction = np.ones(d) / np.sqrt(d)
    unrelated = np.random.default_rng(0).normal(size=(m, d))
    noise = release.noise_deviation(settings) * np.random.default_rng(1).normal(size=d) * z

    def norm_of_sum(updates: Iterable[NDArray[np.float64]]) -> float:
        vectors = [release.client_vector(9 * update, 1, 1.0, {"score": 0.5}, settings) for update in updates]
        return float(np.linalg.norm(np.sum(vectors, axis=0)[:d]))

    cost = Cost.of(z, Schedule(m, m, 1, "full"), d, settings)
    blur = np.linalg.norm(noise)
    assert cost.noise_over_update == pytest.approx(blur / settings.clip_norm, rel=0.03)
    assert cost.signal_to_noise_agreeing == pytest.approx(norm_of_sum([direction] * m) / blur, rel=0.03)
    assert cost.signal_to_noise_unrelated == pytest.approx(norm_of_sum(unrelated) / blur, rel=0.05)
    assert cost.signal_to_noise_all_rounds == cost.signal_to_noise_agreeing


@pytest.mark.parametrize(
    ("mode", "order"),
    [("central", ["allocation", "poisson", "fixed"]), ("distributed", ["poisson", "allocation", "fixed"])],
)
def test_ways_to_draw_are_compared_at_the_same_epsilon(mode: Mode, order: list[str]) -> None:
    settings = PrivacySettings(mode=mode, delta=1e-5)
    schedule = Schedule(200, 20, 20, "fixed")
    made = plan(schedule, 6.0, settings, 10_000, factors=())
    assert [one.sampling for one in made.alternatives] == order
    assert made.alternatives[-1].noise_multiplier == made.noise_multiplier and made.alternatives[-1].cost == made.cost
    for one in made.alternatives:
        at, z = replace(schedule, sampling=one.sampling), one.noise_multiplier
        assert 0.97 * 6 <= epsilons(settings, at, 10_000, 1e-5, noise_multiplier=z)[0].value <= 6
    assert plan(Schedule(20, 20, 20, "full"), 6.0, settings, 10_000, factors=()).alternatives == ()


@pytest.mark.slow(minutes=0.1)
def test_more_clients_need_less_noise_for_the_same_promise() -> None:
    settings = PrivacySettings(delta=1e-5)
    made = plan(Schedule(200, 20, 100), 4.0, settings, 10_000, factors=(2, 100))
    assert [more.clients for more in made.larger] == [400, 20_000]
    z = [made.noise_multiplier, *(more.same_cohort for more in made.larger)]
    assert z == sorted(z, reverse=True)
    for more in made.larger:
        again = epsilons(settings, Schedule(more.clients, 20, 100), 10_000, 1e-5, noise_multiplier=more.same_cohort)
        assert 0.93 * 4 <= again[0].value <= 4
        # With the same rate and delta z stays, so that the signal grows as the cohort does.
        assert more.same_rate == pytest.approx(made.noise_multiplier, rel=0.01)
        ratio = more.same_rate_cost.signal_to_noise_agreeing / made.cost.signal_to_noise_agreeing
        assert ratio == pytest.approx(more.clients / 200, rel=0.01)


def test_what_cannot_be_reached_is_said() -> None:
    settings = PrivacySettings(mode="central", delta=1e-15)
    with pytest.raises(PrivFedTalkError, match=r"no noise multiplier below 1e\+06 reaches ε = 0.0001"):
        plan(Schedule(10, 10, 10**9, "full"), 1e-4, settings, 1000)
    with pytest.raises(PrivFedTalkError, match="positive"):
        plan(Schedule(10, 10, 5, "full"), 0.0, settings, 1000)
    with pytest.raises(PrivFedTalkError, match="mode 'none'"):
        plan(Schedule(10, 10, 5, "full"), 1.0, PrivacySettings(mode="none"), 1000)


def test_the_plan_is_plain_json() -> None:
    made = plan(Schedule(60, 60, 20, "full"), 4.0, PrivacySettings(), 1000)
    read = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert read["noise_multiplier"] == made.noise_multiplier and read["release"]["value"] <= 4.0
