"""The laws of dealing: nothing lost, nothing twice, and alpha decides how unlike the clients are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preparation.clients.partition import cluster, deal, mixture
from preparation.clients.roles import size_shares
from preparation.settings import PartitionSettings, SizeRule

CLUSTERS = 6


def population(units: int = 600, seed: int = 0) -> tuple[dict[str, int], dict[str, int]]:
    """Units of one to four clips in six clusters of unequal size."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLUSTERS, units, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    weights = rng.integers(1, 5, units)
    names = [f"u{number:04d}" for number in range(units)]
    return dict(zip(names, labels.tolist(), strict=True)), dict(zip(names, weights.tolist(), strict=True))


def mean_total_variation(labels: dict[str, int], weights: dict[str, int], given: dict[str, str]) -> float:
    """Mean over clients of half the summed differences between the client's mixture and all clips'."""
    held: dict[str, np.ndarray] = {client: np.zeros(CLUSTERS) for client in given.values()}
    for unit, client in given.items():
        held[client][labels[unit]] += weights[unit]
    pooled = sum(held.values()) / sum(weights.values())
    return float(np.mean([np.abs(counts / counts.sum() - pooled).sum() / 2 for counts in held.values()]))


def deal_to(count: int, alpha: float, seed: int = 0, sizes: SizeRule = SizeRule.NATURAL) -> dict[str, str]:
    labels, weights = population()
    names = [f"d{number}" for number in range(count)]
    return deal(labels, weights, PartitionSettings(clients=count, alpha=alpha, seed=seed, sizes=sizes), names)


@given(st.floats(1e-6, 1e6), st.integers(1, 40), st.integers(0, 5), st.sampled_from(list(SizeRule)))
@settings(max_examples=40)
def test_every_unit_goes_to_one_client_and_every_client_gets_one(
    alpha: float, count: int, seed: int, sizes: SizeRule
) -> None:
    dealt = deal_to(count, alpha, seed, sizes)
    assert set(dealt) == set(population()[0]) and len(set(dealt.values())) == count
    assert dealt == deal_to(count, alpha, seed, sizes)


def test_alpha_goes_from_alike_to_apart() -> None:
    labels, weights = population()
    distances = [
        np.mean([mean_total_variation(labels, weights, deal_to(12, alpha, seed)) for seed in range(5)])
        for alpha in (1e-4, 0.1, 1.0, 10.0, 1e5)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.05
    # Clients of one cluster each would stand 0.78 apart; that all must be dealt, in equal parts, takes some of it.
    assert distances[0] > 0.55


def test_the_seed_deals_differently() -> None:
    assert deal_to(10, 0.3, 0) != deal_to(10, 0.3, 1)


def test_sizes_follow_the_rule_whatever_alpha_is() -> None:
    _, weights = population()
    names = [f"d{number}" for number in range(8)]
    for alpha in (0.05, 100.0):
        for rule in SizeRule:
            dealt = deal_to(8, alpha, 3, rule)
            counts = np.array(
                [sum(weights[unit] for unit, client in dealt.items() if client == name) for name in names]
            )
            drawn = size_shares(names, rule, 1.0, 3)
            shares = np.array([drawn[name] for name in names])
            assert np.abs(counts - counts.sum() * shares / shares.sum()).max() <= 8


def test_mixtures_have_the_pooled_mean_and_dirichlets_variance() -> None:
    pooled = np.array([0.5, 0.3, 0.2])
    draws = np.stack([mixture(pooled, 0.7, np.random.default_rng(seed)) for seed in range(4000)])
    np.testing.assert_allclose(draws.mean(0), pooled, atol=0.02)
    np.testing.assert_allclose(draws.var(0), pooled * (1 - pooled) / (0.7 * 3 + 1), rtol=0.08)
    assert mixture(pooled, 1e-300, np.random.default_rng(0)).max() == pytest.approx(1.0)


def test_clusters_are_found_named_by_size_and_never_empty() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [60, 30, 10])
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 100.0]])
    points = centres[truth] + rng.normal(0, [0.05, 2.0], (100, 2))
    np.testing.assert_array_equal(cluster(points, 3, seed=0), truth)
    np.testing.assert_array_equal(cluster(points, 3, seed=1), truth)
    np.testing.assert_array_equal(cluster(np.ones((5, 2)), 4, seed=0), np.zeros(5))
    labels = cluster(rng.normal(size=(40, 3)), 7, seed=0)
    assert set(labels.tolist()) == set(range(7)) and (np.diff(np.bincount(labels)) <= 0).all()
