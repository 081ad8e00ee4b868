"""Figures of traffic: measured, but where they would tell how many were drawn by secret coins."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from evaluation.results.run_files import traffic_by_round
from tests.training.privacy_records import round_record, settings_with, using
from training.federation.server.checkpoint import RoundRecord
from training.settings import TrainingSettings


def settings(sampling: str, **privacy: object) -> TrainingSettings:
    federation = settings_with().federation.model_copy(update={"sampling": sampling, "clients_per_round": 3})
    return settings_with(**privacy).model_copy(update={"federation": federation})


def cohorts(*sizes: int) -> list[RoundRecord]:
    names = [f"c{number}" for number in range(10)]
    return [
        round_record(number, clients=names[:size], bytes_up=500 * size, bytes_down=700 * size, vector_bytes=400)
        for number, size in enumerate(sizes, start=1)
    ]


def test_bytes_of_secret_cohorts_are_what_the_draws_are_expected_to_come_to() -> None:
    one, other = (
        traffic_by_round([asdict(each) for each in using(settings("poisson"), cohorts(*sizes))], 100)
        for sizes in ((1, 5, 3), (0, 2, 9))
    )
    assert one == other and one[0] == (3, 3 * 400, 3 * 400)


@pytest.mark.parametrize(("sampling", "seed"), [("poisson", 0), ("fixed", None)])
def test_bytes_that_tell_nothing_secret_are_measured(sampling: str, seed: int | None) -> None:
    records = using(settings(sampling, seeded_noise=seed), cohorts(1, 5, 3))
    assert traffic_by_round([asdict(each) for each in records], 100)[1] == (5, 2500, 3500)
