"""Rounds on real shards with a real backbone: sums against their plain form, weights, resumption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from tests.training.small_federation import CLIENTS, TrainerFor, federate, settings_with
from training.execution import open_trainer
from training.federation.client.storage import ClientStorage
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods import configure
from training.federation.server.aggregation import Aggregator
from training.federation.server.opening import open_round
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.privacy.secure_aggregation.messages import ProtocolError
from training.settings import ObjectiveSettings
from training.settings.privacy import PrivacySettings


def test_fedavg_round_is_the_clip_weighted_mean(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("fedavg")
    result = federate(trainer_for, "fedavg", settings, tmp_path / "f", rounds=1)
    trainer = trainer_for(settings, "fedavg")
    theta = trainer.adapter.vector()
    deltas = {client: trainer.train(client, Announcement(1, theta)).delta for client in CLIENTS}
    mean = sum((i + 1) * deltas[client] for i, client in enumerate(CLIENTS)) / 6
    np.testing.assert_allclose(result.theta, theta + mean, atol=1e-6)
    assert np.abs(mean).max() > 1e-4


def test_masked_round_without_noise_is_the_clipped_weighted_sum(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("privfedtalk", mean_weight=0.5)
    result = federate(trainer_for, "privfedtalk", settings, tmp_path / "f", rounds=1)
    trainer = trainer_for(settings, "privfedtalk")
    theta = trainer.adapter.vector()
    total = np.zeros_like(theta, dtype=np.float64)
    for number, client in enumerate(CLIENTS, 1):
        update = trainer.train(client, Announcement(1, theta))
        norm = np.linalg.norm(update.delta)
        weight = number / 3 * np.exp(settings.privacy.gamma * (update.score - 1))
        total += weight * update.delta * min(1.0, 0.05 / norm)
    expected = theta + total / (len(CLIENTS) * 0.5)
    np.testing.assert_allclose(result.theta, expected, atol=3 * 0.05 / 2**20)
    assert result.records[0].bytes_up > 4 * len(theta) * len(CLIENTS)
    assert result.records[0].vector_bytes == 4 * len(theta)


def test_isfa_weights_are_the_papers_up_to_a_common_factor() -> None:
    settings = PrivacySettings(n_max=20, gamma=0.5, mode="none", secure_aggregation=False)
    aggregator = Aggregator(settings, cohort=3, seed=0, clip_norm=settings.clip_norm, denominator=1.0)
    n, s = np.array([3, 12, 20]), np.array([0.2, 0.9, 0.6])
    updates = [LocalUpdate(np.ones(4, np.float32), int(c), float(x), {}, 0.0) for c, x in zip(n, s, strict=True)]
    weights = np.array([aggregator.contribute(str(i), update, 1).weight for i, update in enumerate(updates)])
    paper = n * np.exp(0.5 * s) / np.sum(n * np.exp(0.5 * s))
    np.testing.assert_allclose(weights / weights.sum(), paper, rtol=1e-12)


@pytest.mark.parametrize("colluders", [0, 1, 2])
def test_noise_has_the_promised_size(trainer_for: TrainerFor, tmp_path: Path, colluders: int) -> None:
    quiet = federate(trainer_for, "privfedtalk", settings_with("privfedtalk"), tmp_path / "quiet", rounds=1)
    noisy = settings_with("privfedtalk", noise_multiplier=2.0, tolerated_colluders=colluders)
    loud = federate(trainer_for, "privfedtalk", noisy, tmp_path / "loud", rounds=1)
    settings = noisy.privacy
    deviation = 2.0 * 0.05 / np.sqrt(1 - settings.scalar_budget) / (len(CLIENTS) * settings.mean_weight)
    # All clients survive and none tells its noise, which exceeds the promise by sqrt(clients / (floor - colluders)).
    surplus = np.sqrt(len(CLIENTS) / (settings.minimum_survivors(len(CLIENTS)) - colluders))
    measured = (loud.theta.astype(np.float64) - quiet.theta).std()
    assert measured == pytest.approx(deviation * surplus, rel=0.05)


def test_interrupted_federation_continues_bit_for_bit(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("privfedtalk", noise_multiplier=0.5)
    whole = federate(trainer_for, "privfedtalk", settings, tmp_path / "whole")
    federate(trainer_for, "privfedtalk", settings, tmp_path / "cut", rounds=2)
    log = tmp_path / "cut" / "rounds.jsonl"
    log.write_text(log.read_text() + '{"round": 3, "cli')  # killed while it wrote
    resumed = federate(trainer_for, "privfedtalk", settings, tmp_path / "cut")
    np.testing.assert_array_equal(whole.theta, resumed.theta)
    assert [r.round for r in resumed.records] == [1, 2, 3]
    assert [json.loads(line)["round"] for line in log.read_text().splitlines()] == [1, 2, 3]


def test_other_settings_do_not_continue_an_old_checkpoint(trainer_for: TrainerFor, tmp_path: Path) -> None:
    federate(trainer_for, "privfedtalk", settings_with("privfedtalk"), tmp_path / "f", rounds=2)
    fresh = federate(trainer_for, "privfedtalk", settings_with("privfedtalk", gamma=2.0), tmp_path / "f", rounds=1)
    other = federate(trainer_for, "privfedtalk", settings_with("privfedtalk", gamma=2.0), tmp_path / "g", rounds=1)
    np.testing.assert_array_equal(fresh.theta, other.theta)


def test_adaptive_clipping_and_lagged_denominator_follow_past_rounds(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("privfedtalk", adaptive_clipping=True, denominator="lagged", clip_norm=1e-3)
    records = federate(trainer_for, "privfedtalk", settings, tmp_path / "f").records
    # Every update exceeds so small a norm, so C grows by exp(0.2 * quantile) a round.
    growth = np.exp(settings.privacy.clip_learning_rate * settings.privacy.clip_quantile)
    np.testing.assert_allclose([r.clip_norm for r in records], 1e-3 * growth ** np.arange(3), rtol=1e-3)
    first, second = records[0], records[1]
    assert first.denominator == pytest.approx(3 * settings.privacy.mean_weight)
    assert first.weight_sum is not None
    assert second.denominator == pytest.approx(0.7 * first.denominator + 0.3 * first.weight_sum)


def test_participation_cap_ends_the_federation(trainer_for: TrainerFor, tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="taken part 2 times"):
        federate(trainer_for, "privfedtalk", settings_with("privfedtalk", max_participation=2), tmp_path / "f")
    assert len((tmp_path / "f" / "rounds.jsonl").read_text().splitlines()) == 2


def test_clients_hold_a_rounds_terms_against_the_rounds_they_were_in(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("privfedtalk", max_participation=3)
    records = federate(trainer_for, "privfedtalk", settings, tmp_path / "f", rounds=2).records
    aggregator = open_round(settings, len(CLIENTS), len(CLIENTS), records, 5)
    assert aggregator.taken_part == {client: [1, 2] for client in CLIENTS}
    update = LocalUpdate(np.zeros(4, np.float32), 1, 0.5, {}, 0.0)
    sent = {client: aggregator.contribute(client, update, 3) for client in CLIENTS}
    with pytest.raises(ProtocolError, match="round 2, but this client has taken part in it already"):
        aggregator.combine(sent, 2)
    assert aggregator.combine(sent, 3).returned == CLIENTS
    again = open_round(settings, len(CLIENTS), len(CLIENTS), [*records, replace(records[1], round=3)], 5)
    with pytest.raises(ProtocolError, match="taken part 3 times, its cap"):
        again.combine(sent, 4)


def test_methods_share_data_seeds_and_budget() -> None:
    whole = settings_with("privfedtalk")
    baseline = configure("fedavg", whole)
    assert baseline.federation == whole.federation
    assert baseline.adapter == whole.adapter
    assert baseline.objective.tdc_weight == 0


def test_terms_on_decoded_frames_change_the_update_and_are_recorded(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = settings_with("fedavg")
    plain = trainer_for(settings, "fedavg")
    run, storage = plain.storage.run, plain.storage
    IdentityRuler(width=8, embedding=8).frozen().save(run.model("rulers") / "identity")
    OpeningRuler(width=8).frozen().save(run.model("rulers") / "opening")
    on = {"network": "ruler", "weight": 1.0}
    terms = {"identity": on, "perceptual": on, "sync": on, "decoded": {"least_alpha_bar": 0.0, "frames": 2}}
    objective = ObjectiveSettings.model_validate({**settings.objective.model_dump(), **terms})
    theta = plain.adapter.vector()
    off = plain.train("c2", Announcement(1, theta))
    whole = settings.model_copy(update={"objective": objective})
    update = open_trainer(storage, whole, 5).train("c2", Announcement(1, theta))
    assert set(update.losses) == {"total", "denoising", "tdc", "identity", "perceptual", "sync"}
    assert set(off.losses) == {"total", "denoising", "tdc"}
    assert update.losses["identity"] > 0
    assert np.abs(update.delta - off.delta).max() > 1e-5

    # Switched off by their weights, they leave the update as it was, bit for bit.
    zero = {name: {**on, "weight": 0.0} for name in ("identity", "perceptual", "sync")}
    objective = ObjectiveSettings.model_validate({**settings.objective.model_dump(), **zero})
    silent = open_trainer(storage, settings.model_copy(update={"objective": objective}), 5).train(
        "c2", Announcement(1, theta)
    )
    np.testing.assert_array_equal(silent.delta, off.delta)


def test_a_client_whose_first_counted_round_left_nothing_to_keep_can_repeat_its_second(tmp_path: Path) -> None:
    """It diverged in round 1; round 2, after which it keeps something, is lost and comes again."""
    storage = ClientStorage(RunFolder(tmp_path), "scaffold")
    storage.save_state("c0", 1, 0, {})
    assert storage.load_state("c0", 1) == {}
    storage.save_state("c0", 2, 1, {"control": np.ones(3, np.float32)})
    assert storage.load_state("c0", 1) == {}
    assert storage.load_state("c0", 2)["control"].tolist() == [1, 1, 1]
    with pytest.raises(PrivFedTalkError, match="is missing"):
        storage.load_state("c0", 7)


def test_a_metric_that_nobody_measures_is_refused_before_anybody_trains() -> None:
    settings = PrivacySettings(metrics=("score", "loss"))
    with pytest.raises(PrivFedTalkError, match="names loss, which no client measures"):
        Aggregator(settings, 3, 0, 1.0, 1.0)
    update = LocalUpdate(np.zeros(4, np.float32), 4, 0.5, {}, 0.0)
    without = Aggregator(PrivacySettings(metrics=(), mode="none", secure_aggregation=False), 1, 0, 1.0, 1.0)
    assert without.combine({"c0": without.contribute("c0", update, 1)}, 1).total.metrics == {}


def test_each_metric_that_is_asked_for_stands_in_the_rounds_line(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """The score's parts come out of the sum as the score does; their mean makes it, whatever the weights."""
    settings = settings_with("privfedtalk", mode="none", metrics=("score", "identity", "stability"))
    for record in federate(trainer_for, "privfedtalk", settings, tmp_path / "f").records:
        alpha, found = settings.federation.score_alpha, record.metrics
        assert found["score"] == pytest.approx(alpha * found["identity"] + (1 - alpha) * found["stability"], abs=1e-4)
