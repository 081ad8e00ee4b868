"""The doubt about a figure of a whole set, against formulas and against drawing the set anew."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.arrays import Floats
from evaluation.metrics.sets.distribution import frechet_distance, kernel_distance
from evaluation.metrics.sets.set_level import MOST_BLOCKS, joined, set_interval


def people(count: int, seed: int, spread: float = 0.6, frames: int = 8, width: int = 4) -> dict[str, list]:
    """Clients whose generated frames lie a little beside their true ones; frames of one client resemble each other."""
    rng = np.random.default_rng(seed)
    made = {}
    for number in range(count):
        middle = spread * rng.normal(size=width)
        truth = (middle + rng.normal(size=(frames, width))).astype(np.float32)
        made[f"c{number:03d}"] = [((truth + 0.4 + 0.3 * rng.normal(size=truth.shape)).astype(np.float32), truth)]
    return made


def mean_gap(found: Floats, truth: Floats) -> float:
    return float((found - truth).mean())


def test_of_a_mean_it_is_the_standard_error_over_clients() -> None:
    """For a mean the jackknife is the textbook's formula, whatever the distribution."""
    clients = people(12, seed=1)
    found = set_interval(clients, mean_gap)
    means = np.array([mean_gap(*joined(pairs)) for pairs in clients.values()])
    assert found is not None
    assert found.standard_error == pytest.approx(means.std(ddof=1) / 12**0.5, rel=1e-4)
    assert found.low < mean_gap(*joined([pair for pairs in clients.values() for pair in pairs])) < found.high


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_it_is_how_much_the_figure_moves_when_other_people_are_drawn(name: str) -> None:
    statistic = frechet_distance if name == "fid" else lambda x, y: kernel_distance(x, y).mean
    sets = [people(16, seed) for seed in range(40)]
    figures = [statistic(*joined([pair for pairs in clients.values() for pair in pairs])) for clients in sets]
    errors = [found.standard_error for clients in sets[:12] if (found := set_interval(clients, statistic))]
    assert 0.6 < np.median(errors) / np.std(figures, ddof=1) < 1.7


def test_many_clients_are_left_out_in_blocks() -> None:
    clients, calls = people(50, seed=3, frames=2), []

    def counted(found: Floats, truth: Floats) -> float:
        calls.append(len(found))
        return mean_gap(found, truth)

    assert set_interval(clients, counted) is not None
    assert len(calls) == MOST_BLOCKS + 1 and calls[0] == 100 and min(calls[1:]) >= 94


def test_too_few_clients_have_none() -> None:
    assert set_interval(people(2, seed=0), mean_gap) is None
