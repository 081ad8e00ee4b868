"""The benchmark of cohorts agrees with the accountants that it compares."""

from __future__ import annotations

from benchmarks.cohorts import DRAWN, HEAD, rows, table
from training.privacy.accounting.epsilon import epsilon_release
from training.privacy.accounting.schedule import Schedule


def test_every_way_reaches_the_same_epsilon_and_fixed_cohorts_need_most_noise() -> None:
    ((clients, target, *figures),) = rows([100], [8.0], 20)
    assert (clients, target) == ("100", "8")
    z, signal = [float(figure) for figure in figures[:3]], [float(figure) for figure in figures[3:]]
    for way, noise in zip(DRAWN, z, strict=True):
        schedule = Schedule(100, 10, 20, way)
        assert 7.6 <= epsilon_release(schedule, noise, 1e-5).value <= 8.3  # z is rounded to three digits
    assert z == sorted(z, reverse=True) and signal == sorted(signal)
    head, rule, _ = table([[clients, target, *figures]])
    assert head.count("|") == rule.count("|") == len(HEAD) + 1
