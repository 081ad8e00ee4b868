"""A broken rule is found in the records, marked in the report, and no file can claim otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preparation.folders import RunFolder
from tests.training.privacy_records import CLIENTS, round_record, settings_with, write_method
from training.claims import contradictions, contradictions_of
from training.privacy.release import adapted_clip_norm
from training.privacy.report import budget_split
from training.spent import account

SOUND = [round_record(1), round_record(2)]
BROKEN = {
    "fewer clients than the noise": [round_record(1), round_record(2, survivors=7, returned=CLIENTS[:7])],
    "a clipping norm that does not follow": [round_record(1), round_record(2, clip_norm=0.6)],
    "did not clip": [round_record(1, simulation={"faults": {"c3": "unclipped"}}), round_record(2)],
}


def test_a_sound_run_is_private_and_nothing_is_said_against_it() -> None:
    report = account("privfedtalk", settings_with(), 10, SOUND, 1000)
    assert report.private and report.mark.startswith("Private: ε = ")
    assert contradictions("privfedtalk", json.loads(json.dumps(report.to_json())), SOUND) == []


@pytest.mark.parametrize("reason", BROKEN)
def test_a_rule_that_was_broken_is_a_violation(reason: str) -> None:
    report = account("privfedtalk", settings_with(), 10, BROKEN[reason], 1000)
    assert not report.private and not report.guarantee_holds
    assert reason in report.violations[0] and reason in report.mark and report.mark.startswith("NOT PRIVATE")
    # A report that keeps silent about it is caught.
    silent = account("privfedtalk", settings_with(), 10, SOUND, 1000).to_json()
    assert any(reason in line for line in contradictions("privfedtalk", silent, BROKEN[reason]))
    assert any("private" in line for line in contradictions("privfedtalk", silent, BROKEN[reason]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeded_noise": 1}, "seed"),
        ({"tuned_on_clients": True}, "chosen by clients' private figures"),
        ({"mode": "none"}, "No noise"),
        ({"max_participation": 1}, "1 is the cap"),
    ],
)
def test_settings_that_break_the_guarantee(changes: dict, said: str) -> None:
    report = account("privfedtalk", settings_with(**changes), 10, SOUND, 1000)
    assert not report.guarantee_holds and said in report.mark


@pytest.mark.parametrize(("method", "said"), [("centralized", "in one place"), ("local", "adapter of its own")])
def test_methods_that_are_no_federation_are_never_private(method: str, said: str) -> None:
    assert said in account(method, settings_with(), 10, SOUND, 1000).mark


def test_adaptive_clipping_follows_the_released_shares() -> None:
    settings = settings_with(adaptive_clipping=True)
    C = adapted_clip_norm(0.5, 0.9, settings.privacy)
    moved = [round_record(1, within_clip=0.9), round_record(2, clip_norm=C)]
    report = account("privfedtalk", settings, 10, moved, 1000)
    assert report.private and report.clip_norms == (0.5, C) and f"to {C:.3g}" in report.to_markdown()
    other = [round_record(1, within_clip=0.8), round_record(2, clip_norm=C)]
    assert "clipping norm" in account("privfedtalk", settings, 10, other, 1000).mark


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon_release": 0.1}, "epsilon_release is 0.1"),
        ({"noise_multiplier": 9.0, "settings": {"noise_multiplier": 1.0}}, "by its accountant"),
        ({"rounds": 1}, "2 rounds count and 1"),
        ({"participation": 1}, "took part 2 times"),
        ({"settings": {"seeded_noise": 3}}, "seed"),
    ],
)
def test_a_report_that_was_made_better_is_caught(change: dict, said: str) -> None:
    report = json.loads(json.dumps(account("privfedtalk", settings_with(), 10, SOUND, 1000).to_json()))
    change = {name: {**report[name], **value} if name == "settings" else value for name, value in change.items()}
    assert any(said in line for line in contradictions("privfedtalk", {**report, **change}, SOUND))


def test_the_adapters_mark_is_its_reports(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_method(run, "privfedtalk", settings_with(seeded_noise=1), SOUND)
    assert contradictions_of(run, "privfedtalk") == []
    facts = run.adapter("privfedtalk") / "privfedtalk.json"
    assert "NOT PRIVATE" in json.loads(facts.read_text())["privacy"]
    facts.write_text(json.dumps({"privacy": "Private"}))
    assert "the adapter says 'Private'" in contradictions_of(run, "privfedtalk")[0]


def test_the_budget_adds_up_to_the_noise_multiplier() -> None:
    settings = settings_with(noise_multiplier=0.7, scalar_budget=0.2).privacy
    assert sum(z**-2 for z in budget_split(settings).values()) == pytest.approx(0.7**-2)
