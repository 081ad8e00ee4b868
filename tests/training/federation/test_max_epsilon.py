"""`privacy.max_epsilon`: the round that would exceed it is not begun, and the training is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from common.errors import PrivFedTalkError
from preparation.clients.roles import Client, save_clients
from tests.training.small_federation import CLIENTS, InProcess, TrainerFor, settings_with
from training.claims.account import account
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.server.spending import planned_schedule, rounds_that_fit
from training.forecast import forecast
from training.pipeline import federate
from training.privacy.accounting.guarantee import epsilons
from training.settings import TrainingSettings
from training.settings.privacy import PrivacySettings

DIMENSION = 100


class KilledError(Exception):
    """The process ends here."""


def settings(rounds: int, max_epsilon: float | None, method: str = "privfedtalk") -> TrainingSettings:
    made = settings_with(method, noise_multiplier=2.0, seeded_noise=3, max_epsilon=max_epsilon)
    federation = made.federation.model_copy(update={"rounds": rounds, "local_steps": 1, "score_steps": 1})
    return made.model_copy(update={"federation": federation})


def epsilon_of(rounds: int, dimension: int = DIMENSION) -> float:
    chosen = settings(rounds, None)
    delta = chosen.privacy.target_delta(len(CLIENTS))
    return epsilons(chosen.privacy, planned_schedule(chosen, len(CLIENTS)), dimension, delta)[0].value


def run(
    trainer_for: TrainerFor,
    chosen: TrainingSettings,
    folder: Path,
    public_loss: Callable[[np.ndarray], float] = lambda theta: 0.0,
) -> tuple[FederationResult, int]:
    trainer = trainer_for(chosen, "privfedtalk")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256, trainer.adapter.factors)
    engine = InProcess(trainer)
    result = run_federation(engine, "privfedtalk", start, CLIENTS, public_loss, chosen, folder, seed=5)
    return result, len(start.theta)


def test_training_ends_before_the_round_that_would_exceed_it_and_goes_on_when_it_is_raised(
    trainer_for: TrainerFor, tmp_path: Path
) -> None:
    whole, dimension = run(trainer_for, settings(4, None), tmp_path / "whole")
    limit = 0.5 * (epsilon_of(2, dimension) + epsilon_of(3, dimension))
    cut, _ = run(trainer_for, settings(4, limit), tmp_path / "cut")
    assert [record.round for record in cut.records] == [1, 2]
    spent = cut.records[-1].epsilon_release
    assert spent is not None and spent <= limit
    report = account("privfedtalk", settings(4, limit), len(CLIENTS), cut.records, dimension)
    (said,) = [line for line in report.assumptions if line.startswith("Training ended after 2 of 4 planned rounds")]
    assert f"past privacy.max_epsilon = {limit:g}" in said

    again, _ = run(trainer_for, settings(4, limit), tmp_path / "cut")
    assert [record.signature for record in again.records] == [record.signature for record in cut.records]
    raised = settings(4, 2 * epsilon_of(4, dimension))
    on, _ = run(trainer_for, raised, tmp_path / "cut")
    assert [record.round for record in on.records] == [1, 2, 3, 4]
    np.testing.assert_array_equal(on.theta, whole.theta)
    for chosen in (raised, settings(4, None)):
        report = account("privfedtalk", chosen, len(CLIENTS), on.records, dimension)
        assert not any("Training ended" in line for line in report.assumptions)


def test_a_sum_that_may_have_been_seen_before_the_process_was_killed_counts(
    trainer_for: TrainerFor, tmp_path: Path
) -> None:
    """Killed in round 2 after its sum was opened: that attempt takes the place of the third round."""

    def loss(theta: np.ndarray) -> float:
        if (tmp_path / "one").exists():
            raise KilledError
        (tmp_path / "one").touch()
        return 0.0

    chosen = settings(4, None)
    dimension = len(trainer_for(chosen, "privfedtalk").adapter.vector())
    secret = chosen.privacy.model_copy(
        update={"seeded_noise": None, "max_epsilon": 0.5 * (epsilon_of(3, dimension) + epsilon_of(4, dimension))}
    )
    chosen = chosen.model_copy(update={"privacy": secret})
    with pytest.raises(KilledError):
        run(trainer_for, chosen, tmp_path / "run", loss)
    result, _ = run(trainer_for, chosen, tmp_path / "run")
    assert [len(record.reopened) for record in result.records] == [0, 1]


def test_a_limit_below_one_round_is_an_error_with_a_remedy(trainer_for: TrainerFor, tmp_path: Path) -> None:
    with pytest.raises(
        PrivFedTalkError, match=r"the first round alone would exceed privacy.max_epsilon = 0.01"
    ) as told:
        run(trainer_for, settings(4, 0.01), tmp_path / "run")
    assert "noise_multiplier" in told.value.remedy


@pytest.mark.parametrize("rounds", [1, 2, 3, 7])
def test_the_plan_counts_the_rounds_that_fit(rounds: int) -> None:
    limit = epsilon_of(rounds) * 1.0001
    assert rounds_that_fit(settings(7, limit), len(CLIENTS), DIMENSION) == rounds
    assert rounds_that_fit(settings(7, None), len(CLIENTS), DIMENSION) == 7
    told = forecast("privfedtalk", settings(7, limit), len(CLIENTS), DIMENSION)
    assert told.rounds == rounds and told.epsilon_release is not None and told.epsilon_release <= limit
    full = forecast("privfedtalk", settings(7, None), len(CLIENTS), DIMENSION)
    assert told.steps * 7 == full.steps * rounds and told.bytes_total * 7 == full.bytes_total * rounds


def test_methods_that_send_nothing_run_all_rounds(trainer_for: TrainerFor, tmp_path: Path) -> None:
    chosen = settings(2, 0.01, "local")
    trainer = trainer_for(chosen, "local")
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256, trainer.adapter.factors)
    result = run_federation(
        InProcess(trainer), "local", start, CLIENTS, lambda theta: 0.0, chosen, tmp_path / "run", seed=5
    )
    assert len(result.records) == 2


@pytest.mark.parametrize("values", [{"mode": "none"}, {"noise_multiplier": 0.0}])
def test_without_noise_there_is_no_limit_to_keep(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="max_epsilon 8 cannot be kept by mode"):
        PrivacySettings.model_validate({"max_epsilon": 8, **values})


def test_it_is_said_when_training_ends(trainer_for: TrainerFor, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings(3, None)
    trainer = trainer_for(chosen, "privfedtalk")
    limit = 1.01 * epsilon_of(2, len(trainer.adapter))
    execution = chosen.execution.model_copy(update={"engine": "here"})
    chosen = settings(3, limit).model_copy(update={"execution": execution})
    table = {name: Client("client", name, {"train": [], "validation": [], "test": []}) for name in CLIENTS}
    save_clients(table, trainer.storage.run.clients_table)
    federate(trainer.storage.run, "privfedtalk", chosen, seed=5, resume=False, validated=False, shown=False)
    assert "privfedtalk: Training ended after 2 of 3 planned rounds" in capsys.readouterr().err
