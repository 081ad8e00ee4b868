"""Populations: defaults, interpolation, refusal of unknown keys."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from preparation.corpora.studio.clip import population_of
from preparation.corpora.studio.identity import draw_identity
from preparation.corpora.studio.settings import CLIENT_POPULATION, PUBLIC_POPULATION, StudioSettings


def test_shift_runs_from_public_to_client_and_beyond() -> None:
    assert PUBLIC_POPULATION.towards(CLIENT_POPULATION, 0.0) == PUBLIC_POPULATION
    assert PUBLIC_POPULATION.towards(CLIENT_POPULATION, 1.0) == CLIENT_POPULATION
    beyond = PUBLIC_POPULATION.towards(CLIENT_POPULATION, 1.5)
    assert beyond.articulation_gain == pytest.approx(1.0 + 1.5 * 0.9)
    assert beyond.articulation_variety >= 0.03, "people never become copies of each other"
    assert population_of("client", StudioSettings(shift=0.0)) == PUBLIC_POPULATION
    assert population_of("public", StudioSettings(shift=1.5)) == PUBLIC_POPULATION


def test_gains_of_public_speakers_vary_and_clients_articulate_wider() -> None:
    settings = StudioSettings()

    def gains(kind: str, count: int) -> np.ndarray:
        population = population_of(kind, settings)
        return np.array([draw_identity(0, kind, n, population).articulation_gain for n in range(count)])

    public, clients, unseen = gains("public", 60), gains("client", 30), gains("unseen", 30)
    assert 0.7 <= public.min() < 0.8 and 1.2 < public.max() <= 1.3
    for shifted in (clients, unseen):
        assert 1.7 * public.mean() <= shifted.min() and shifted.max() <= 2.1 * public.mean()


def test_people_are_the_same_whoever_else_is_asked_for() -> None:
    first = draw_identity(3, "client", 5, CLIENT_POPULATION)
    draw_identity(3, "client", 6, CLIENT_POPULATION)
    again = draw_identity(3, "client", 5, CLIENT_POPULATION)
    assert repr(first) == repr(again)
    other = draw_identity(4, "client", 5, CLIENT_POPULATION)
    assert repr(first) != repr(other)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="speakers"):
        StudioSettings(speakers=3)  # type: ignore[call-arg]
