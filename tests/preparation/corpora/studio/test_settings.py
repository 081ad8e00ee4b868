"""Populations: defaults, interpolation, refusal of unknown keys."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from pydantic import ValidationError

from preparation.corpora.studio.clip import film, invite, population_of
from preparation.corpora.studio.head.identity import draw_identity
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

    public, shifted = gains("public", 60), {kind: gains(kind, 30) for kind in ("client", "unseen", "volunteer")}
    assert 0.7 <= public.min() < 0.8 and 1.2 < public.max() <= 1.3
    for found in shifted.values():
        assert 1.7 * public.mean() <= found.min() and found.max() <= 2.1 * public.mean()
    assert not set(shifted["client"]) & set(shifted["volunteer"]), "they are other people"


def test_glasses_come_in_the_share_that_is_asked_for_and_go_by_the_same_people() -> None:
    def wearers(share: float) -> set[int]:
        population = PUBLIC_POPULATION.model_copy(update={"glasses": share})
        return {n for n in range(300) if draw_identity(1, "client", n, population).glasses != "none"}

    assert wearers(0.0) == set() and wearers(1.0) == set(range(300))
    quarter, half, most = wearers(0.25), wearers(0.5), wearers(0.8)
    assert quarter < half < most, "a larger share adds wearers and takes glasses off nobody"
    for share, found in ((0.25, quarter), (0.5, half), (0.8, most)):
        assert len(found) / 300 == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / 300))


def test_a_population_before_other_cameras_is_filmed_from_below_softly_and_with_grain() -> None:
    settings = StudioSettings(clients=1, seconds=0.8, size=96)
    perfect = film(invite("client", 0, settings), 0, settings)
    cheap_camera = {"camera_pitch": 6.0, "camera_softness": 0.01, "camera_noise": 6.0}
    moved = settings.model_copy(update={"client_population": CLIENT_POPULATION.model_copy(update=cheap_camera)})
    cheap = film(invite("client", 0, moved), 0, moved)
    below = np.mean(cheap.truth()["pose"] - perfect.truth()["pose"], axis=0)
    assert -6.0 * 1.4 <= below[1] <= -6.0 * 0.6 and abs(below[[0, 2]]).max() < 1e-6
    frames = list(islice(cheap.frames(), 2))
    assert np.array_equal(frames[0], next(cheap.frames())), "the grain is the clip's own"
    grain = (frames[1].astype(float) - frames[0])[:20, :20].std() / np.sqrt(2)
    assert 6.0 * 0.6 - 1.0 < grain < 6.0 * 1.4 + 1.0
    assert np.array_equal(film(invite("client", 0, settings), 0, settings).sound, cheap.sound)


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
