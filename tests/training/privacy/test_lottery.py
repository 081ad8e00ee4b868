"""Poisson sampling: nothing that is released, but for what the theorem counts, tells who or how many were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from training.aggregation import Aggregator, Lottery
from training.client import LocalUpdate
from training.privacy.release import RoundSum
from training.privacy.settings import PrivacySettings

LOTTERY = PrivacySettings(mode="distributed", noise_multiplier=0.5, seeded_noise=3, survivor_floor=0.8)


def released_sum(came: int, settings: PrivacySettings = LOTTERY, dimension: int = 20_000) -> RoundSum:
    """The sum over `came` of 20 clients, each drawn by itself, whose updates are all zero: noise and scalars alone."""
    lottery = Lottery(population=20, expected=10.0)
    aggregator = Aggregator(settings, came, 0, settings.clip_norm, 5.0, lottery)
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
    round_of_ten = Aggregator(LOTTERY, 10, 0, LOTTERY.clip_norm, 5.0, Lottery(20, 10.0))
    assert np.mean(deviations) == pytest.approx(round_of_ten.noise_on_sum(10), rel=0.01)
    assert min(deviations) > 1.09 * round_of_ten.deviation  # 10 of 8 shares counted on: a quarter more variance


def test_scalars_are_read_by_the_expected_number() -> None:
    """What moves the next round's C and D in the open must not show how many came: with equal noise, equal figures."""
    quiet = LOTTERY.model_copy(update={"mode": "central", "noise_multiplier": 1e-9, "secure_aggregation": False})
    few, many = (released_sum(came, quiet, 10) for came in (5, 15))
    centred = few.weight - 0.5 * 10
    assert many.weight - 0.5 * 10 == pytest.approx(3 * centred, abs=1e-3)
