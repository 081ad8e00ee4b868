"""The attack finds whom an adapter has learnt by heart, and nobody in one that was never trained."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.attacks.auc import Area, Scores
from evaluation.attacks.membership import MembershipSettings, attack_membership, judge
from evaluation.attacks.people import People
from evaluation.attacks.shadows import Shadows, draw_halves, likelihood_ratios, train_shadows
from evaluation.experiments import federations
from evaluation.experiments.federations import scratch_run, train, without_unread_score
from evaluation.experiments.points import Federation
from evaluation.experiments.trained import Trained
from evaluation.report.privacy_page import write_privacy_reports
from preparation.clients.consent import Consent, write_consent
from preparation.clients.roles import Client, save_clients
from tests.evaluation.attacks.small_people import CLIENTS, STRANGERS, TRAINING, federated, make_run, release

SETTINGS = MembershipSettings(draws=3)
DAY = datetime.date(2026, 1, 1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "mine")


@pytest.mark.slow(minutes=0.2)
def test_members_of_an_overfitted_adapter_are_found_and_shown(run: RunFolder, tmp_path: Path) -> None:
    release(run, federated(run, tmp_path))
    found = attack_membership(run, "fedavg", TRAINING, 0, SETTINGS)
    assert found.areas["gain"].value > 0.9 and found.areas["gain"].finds_members and found.found
    # Of three attacks one is the best by chance, too: what is claimed holds for all of them.
    gain = found.areas["gain"]
    assert "at 95 % for all 3 attacks together" in found.verdict and f"[{gain.low:.2f}, " not in found.verdict
    assert found.areas["other clips"].value < found.areas["gain"].value  # by heart, not by person
    assert (found.areas["gain"].members, found.areas["gain"].others, found.clips) == (5, 5, 1)
    told = json.loads((run.attack("membership", "fedavg") / "membership.json").read_text())
    assert told["areas"]["gain"]["value"] == found.areas["gain"].value and set(told["people"]) == {*CLIENTS, *STRANGERS}
    (page,) = write_privacy_reports(run, ["fedavg"], tmp_path / "out")
    assert "Membership inference" in page.read_text() and found.verdict in page.read_text()
    (run.adapter("fedavg") / "adapter_model.safetensors").write_bytes(b"another release")
    (page,) = write_privacy_reports(run, ["fedavg"], tmp_path / "out")
    assert "Membership inference" not in page.read_text()


def test_a_fresh_adapter_tells_nothing(run: RunFolder, tmp_path: Path) -> None:
    release(run, federated(run, tmp_path, method=None))
    found = attack_membership(run, "fedavg", TRAINING, 0, SETTINGS)
    assert found.areas["gain"].value == found.areas["other clips"].value == 0.5  # B = 0: it is the backbone
    assert not found.found and "surely better than a guess" in found.verdict
    assert found.areas["loss"].low < 0.5 < found.areas["loss"].high


@pytest.mark.slow
def test_shadow_runs_make_the_likelihood_ratio(run: RunFolder, tmp_path: Path) -> None:
    release(run, federated(run, tmp_path))
    told: list[int] = []
    settings = MembershipSettings(draws=2, shadows=4)
    found = attack_membership(run, "fedavg", TRAINING, 0, settings, lambda number, of: told.append(number))
    assert told == [1, 2, 3, 4] and set(found.among_shadows) == {"loss", "gain", "ratio"}
    assert found.areas["ratio"].value > 0.8 and found.among_shadows["gain"].value > 0.8
    assert found.among_shadows["ratio"].members == found.among_shadows["ratio"].others == 20


@pytest.mark.slow(minutes=0.1)
def test_shadow_runs_that_ended_are_not_run_again(run: RunFolder) -> None:
    once = TRAINING.federation.model_copy(update={"rounds": 1, "local_steps": 1})
    training = TRAINING.model_copy(update={"federation": once})
    people, kept = People.of(run, "fedavg", None), run.attack("membership", "fedavg") / "shadows"
    before = np.ones(len(people.names))

    def interrupt(number: int, of: int) -> None:
        raise KeyboardInterrupt

    def shadows(on_shadow: Callable[[int, int], None] = lambda number, of: None, before: Scores = before) -> Shadows:
        return train_shadows(run, "fedavg", people, training, before, 0, 2, 1, on_shadow)

    with pytest.raises(KeyboardInterrupt):
        shadows(interrupt)
    (first,) = kept.iterdir()
    ended = first.stat().st_mtime_ns
    resumed = shadows()
    assert len(list(kept.iterdir())) == 2 and first.stat().st_mtime_ns == ended
    with pytest.raises(KeyboardInterrupt):
        shadows(interrupt, 2 * before)  # of another backbone, or other clips
    assert len(list(kept.iterdir())) == 3
    shutil.rmtree(kept)
    np.testing.assert_array_equal(shadows().losses, resumed.losses)


@pytest.mark.slow(minutes=0.1)
def test_a_shadow_is_scored_after_its_last_round(run: RunFolder) -> None:
    """No round of a shadow is measured on public people, so none is known to be best, whatever the run keeps."""

    def shadows(keep: str) -> Scores:
        rounds = TRAINING.federation.model_copy(update={"rounds": 2, "local_steps": 1, "keep": keep})
        training = TRAINING.model_copy(update={"federation": rounds})
        people = People.of(run, "fedavg", None)
        before = np.ones(len(people.names))
        return train_shadows(run, "fedavg", people, training, before, 0, 2, 1, lambda number, of: None).losses

    np.testing.assert_array_equal(shadows("best"), shadows("last"))


def test_a_cheap_score_that_nobody_reads_leaves_the_adapter_as_it_is(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = TRAINING.federation.model_copy(update={"rounds": 1, "local_steps": 1, "score_frames": 5})
    costly = TRAINING.model_copy(update={"federation": once})
    assert without_unread_score("fedavg", costly).federation.score_frames == 2
    weighed = costly.model_copy(update={"privacy": costly.privacy.model_copy(update={"gamma": 2.0})})
    assert without_unread_score("isfa_only", weighed).federation.score_frames == 5

    def trained() -> Trained:
        with scratch_run(run, tmp_path / "scratch", federation) as scratch:
            return train(scratch, federation)

    federation = Federation("fedavg", costly, seed=1)
    cheap = trained()
    monkeypatch.setattr(federations, "without_unread_score", lambda method, training: training)
    whole = trained()
    assert (cheap.shared[1] == whole.shared[1]).all() and cheap.scores != whole.scores


def test_every_person_is_in_half_of_the_shadow_runs() -> None:
    included = draw_halves(11, 8, seed=3)
    assert (included.sum(axis=0) == 4).all() and not (included[0] & included[1]).any()
    assert (draw_halves(11, 8, seed=3) == included).all() and (draw_halves(11, 8, seed=4) != included).any()


def test_the_likelihood_ratio_is_that_of_two_gaussians() -> None:
    included = np.array([[True, False], [False, True], [True, False], [False, True]])
    gains = np.array([[1.0, 5.0], [0.2, 7.0], [1.4, 5.2], [0.0, 7.4]])
    ratios = likelihood_ratios(np.array([1.2, 5.1]), Shadows(gains, gains, included))
    # Means in and out: 1.2 and 0.1; 7.2 and 5.1. Residuals 0.2, 0.1, 0.2, 0.1 twice but for the order.
    variance = np.mean(np.array([0.2, 0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.2]) ** 2)
    np.testing.assert_allclose(ratios, [1.1**2 / (2 * variance), -(2.1**2) / (2 * variance)], rtol=1e-6)


def test_the_verdict_names_the_best_attack() -> None:
    guess, sure = Area(0.6, 0.3, 0.8, 5, 5), Area(0.9, 0.7, 0.97, 5, 5)
    assert judge({"loss": guess}, {}) == (
        False,
        "No attack is surely better than a guess; the best: AUC 0.60 [0.30, 0.80] by loss.",
    )
    found, verdict = judge({"loss": guess}, {"ratio": sure})
    assert (
        found
        and verdict
        == "Members are found: AUC 0.90 [0.70, 0.97] by ratio among shadow runs, at 95 % for all 2 attacks together."
    )


def test_who_was_in_is_read_from_the_rounds_not_from_the_role(run: RunFolder) -> None:
    """c1 revoked, c2 was never drawn, c3 only dropped out, c4 came after the round that was kept."""
    facts = run.adapter("fedavg") / "privfedtalk.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"round": "2"}))
    lines = [
        {"round": 1, "outcome": "applied", "clients": ["c0", "c3"], "returned": ["c0"]},
        {"round": 2, "outcome": "rolled back", "clients": ["c3"], "returned": ["c3"]},
        {"round": 3, "outcome": "applied", "clients": ["c4"], "returned": ["c4"]},
    ]
    run.rounds("fedavg").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_consent(run, "c1", Consent(who="Ben", granted=DAY, revoked=DAY))
    people = People.of(run, "fedavg", None)
    assert [name for name, was_in in zip(people.names, people.was_in, strict=True) if was_in] == ["c0"]
    assert set(people.names) == {"c0", "c2", "c3", "c4", *STRANGERS} and set(people.other_clips) == {"c0"}
    write_consent(run, "c0", Consent(who="Ada", granted=DAY, revoked=DAY))
    with pytest.raises(PrivFedTalkError, match="nobody who is in the adapter of fedavg"):
        People.of(run, "fedavg", None)
    run.rounds("fedavg").unlink()
    with pytest.raises(PrivFedTalkError, match="who took part in fedavg is not known"):
        People.of(run, "fedavg", None)


def test_a_client_without_a_record_is_not_attacked_where_one_is_required(run: RunFolder) -> None:
    run.consent("c0").unlink()
    assert "c0" not in People.of(run, "fedavg", None).names
    assert "c0" in People.of(run, "fedavg", None, required=False).names


def test_what_cannot_be_attacked_is_said(run: RunFolder) -> None:
    with pytest.raises(PrivFedTalkError, match="no adapter of many clients"):
        attack_membership(run, "local", TRAINING, 0)
    table = {name: Client("client", name, {"train": [], "validation": [], "test": []}) for name in CLIENTS}
    save_clients(table, run.clients_table)
    with pytest.raises(PrivFedTalkError, match="who did not train"):
        attack_membership(run, "fedavg", TRAINING, 0)
