"""The mechanisms of all modes: what each adds, bounds and says of itself, by the same laws."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from training.federation.client.training import LocalUpdate
from training.privacy.accounting.conditions import settings_violations
from training.privacy.mechanisms import release
from training.privacy.mechanisms.factory import MECHANISMS, mechanism_for, promised_terms
from training.settings.privacy import Mode, PrivacySettings

MODES: tuple[Mode, ...] = get_args(Mode)
D = 500


def settings_of(mode: Mode, masked: bool = False, **changes: object) -> PrivacySettings:
    default = PrivacySettings(clip_norm=0.7, noise_multiplier=2.0, seeded_noise=5, tolerated_colluders=0)
    return default.model_copy(update={"mode": mode, "secure_aggregation": masked or mode == "distributed", **changes})


def update_of(seed: int, scale: float = 10.0) -> LocalUpdate:
    delta = scale * np.random.default_rng(seed).normal(size=D)
    return LocalUpdate(delta.astype(np.float32), 20, 0.9, {}, 0.0)


def test_every_mode_has_a_mechanism_that_says_whether_it_has_a_guarantee() -> None:
    assert set(MECHANISMS) == set(MODES)
    for mode, kind in MECHANISMS.items():
        settings = settings_of(mode, seeded_noise=None)
        assert bool(kind.no_guarantee) != settings.has_proof == (not settings_violations(settings))
        assert "Sensitivity: " in (kind.__doc__ or "")


@pytest.mark.parametrize("C", [0.7, 3.0])
def test_noise_follows_the_mode_and_the_rounds_own_norm(C: float) -> None:
    bound = C / math.sqrt(1 - settings_of("none").scalar_budget)
    deviations = {"distributed": 2 * bound, "central": 2 * bound, "none": 0.0, "local_no_proof": 2 * C}
    found = {mode: mechanism_for(settings_of(mode), 10, C).deviation for mode in MODES}
    assert found == pytest.approx(deviations)


@pytest.mark.parametrize(("mode", "masked"), [("none", False), ("none", True), ("central", False), ("central", True)])
def test_a_client_moves_the_sum_by_no_more_than_the_sensitivity(mode: Mode, masked: bool) -> None:
    """Zero-out adjacency: the client's part of the sum is its vector, against the zero vector."""
    mechanism = mechanism_for(settings_of(mode, masked), 3, 0.7)
    vector, weight = mechanism.protect(update_of(1), "c0", 1)
    part = mechanism.opened(vector) if masked else mechanism.plain_sum([vector])
    bound = release.vector_norm_bound(mechanism.settings, 0.7)
    assert 0 < weight <= 1 and 0.9 * 0.7 < np.linalg.norm(part[:D]) <= 0.7 * (1 + 1e-5 * masked)
    assert np.linalg.norm(part) <= bound * (1 + 1e-5 * masked)
    nothing, no_weight = mechanism.protect(update_of(1, math.nan), "c0", 1)
    assert no_weight == 0.0 and (mode == "none" or not np.any(nothing))


@pytest.mark.parametrize("mode", MODES)
def test_noise_is_added_on_one_side_alone(mode: Mode) -> None:
    """By the client in shares or on its own update, by the trusted server, or by nobody."""
    loud, quiet = (mechanism_for(settings_of(mode, noise_multiplier=z), 3, 0.7) for z in (2.0, 0.0))
    sent = [mechanism.protect(update_of(2, 1e-3), "c0", 1)[0] for mechanism in (loud, quiet)]
    assert np.array_equal(sent[0], sent[1]) != (mode in ("distributed", "local_no_proof"))
    total = np.zeros(D + 3)
    assert loud.add_noise(total, 1, 3).any() == (mode == "central")
    assert not quiet.add_noise(total, 1, 3).any()
    assert loud.add_noise(total, 1, 0).any() == loud.settings.has_proof, "a sum over nobody has its whole noise"


@pytest.mark.parametrize("mode", MODES)
def test_a_rounds_terms_are_those_that_clients_were_promised(mode: Mode) -> None:
    settings = settings_of(mode)
    assert mechanism_for(settings, 6, 0.3).terms == promised_terms(settings, 6, 0.3)
    assert (promised_terms(settings, 6, 0.3).share_variance > 0) == (mode == "distributed")


@pytest.mark.parametrize("mode", MODES)
def test_the_public_number_divides_where_there_is_a_guarantee_to_keep(mode: Mode) -> None:
    mechanism = mechanism_for(settings_of(mode), 3, 0.7)
    total = release.RoundSum(np.zeros(D), 1.25, 1.0, {}, 3)
    assert mechanism.divisor(9.0, total) == (9.0 if mechanism.settings.has_proof else 1.25)
    assert mechanism.shows_parts() == (mode == "none")
    assert mechanism.fewest_masked == (2 if mode == "none" else 1)
