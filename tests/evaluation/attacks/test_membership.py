"""The attack finds whom an adapter has learnt by heart, and nobody in one that was never trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.attacks.auc import Area
from evaluation.attacks.membership import MembershipSettings, attack_membership, judge
from evaluation.attacks.shadows import Shadows, draw_halves, likelihood_ratios
from evaluation.report.privacy_page import write_privacy_reports
from preparation.clients import Client, save_clients
from preparation.errors import PrivFedTalkError
from preparation.folders import RunFolder
from tests.evaluation.attacks.small_people import CLIENTS, STRANGERS, TRAINING, federated, make_run, release

SETTINGS = MembershipSettings(draws=3)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "mine")


def test_members_of_an_overfitted_adapter_are_found_and_shown(run: RunFolder, tmp_path: Path) -> None:
    release(run, federated(run, tmp_path))
    found = attack_membership(run, "fedavg", TRAINING, 0, SETTINGS)
    assert found.areas["gain"].value > 0.9 and found.areas["gain"].finds_members and found.found
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
    assert found and verdict == "Members are found: AUC 0.90 [0.70, 0.97] by ratio among shadow runs."


def test_what_cannot_be_attacked_is_said(run: RunFolder) -> None:
    with pytest.raises(PrivFedTalkError, match="no adapter of many clients"):
        attack_membership(run, "local", TRAINING, 0)
    table = {name: Client("client", name, {"train": [], "validation": [], "test": []}) for name in CLIENTS}
    save_clients(table, run.clients_table)
    with pytest.raises(PrivFedTalkError, match="who did not train"):
        attack_membership(run, "fedavg", TRAINING, 0)
