"""The report says what is true: the figures, and that a broken guarantee is none."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from training.claims.report import privacy_report
from training.claims.report_text import plain_note
from training.privacy.accounting.epsilon import epsilon_release, epsilon_server
from training.privacy.accounting.guarantee import Together, epsilons, meaningful_population
from training.privacy.accounting.schedule import Schedule
from training.settings.privacy import Mode, PrivacySettings

DEMO = Schedule(8, 8, 6, "full")


def test_the_demo_is_reported_as_what_it_is() -> None:
    report = privacy_report(PrivacySettings(noise_multiplier=0.01, seeded_noise=0), DEMO, 200_000)
    assert not report.private and not report.guarantee_holds
    assert report.epsilon_release is not None and report.epsilon_release > 1000
    assert report.epsilon_release == report.epsilon_server
    assert "seed" in report.violations[0] and "seed" in report.note
    assert report.meaningful_population is not None and report.meaningful_population.clients > 100
    assert f"{report.meaningful_population.clients:,}" in report.note


def test_results_json_has_every_key_and_no_infinity() -> None:
    for settings in (PrivacySettings(), PrivacySettings(mode="none"), PrivacySettings(mode="central")):
        values = privacy_report(settings, DEMO, 1000).to_json()
        read = json.loads(json.dumps(values, allow_nan=False))
        wanted = {
            "epsilon_release",
            "epsilon_server",
            "delta",
            "noise_multiplier",
            "clip_norm",
            "clients",
            "rounds",
            "note",
        }
        assert wanted <= read.keys()
        assert read["delta"] == 1e-5


def test_without_noise_nothing_is_claimed() -> None:
    for settings in (PrivacySettings(mode="none"), PrivacySettings(noise_multiplier=0.0)):
        report = privacy_report(settings, DEMO, 1000)
        assert report.epsilon_release is None and not report.private
        assert report.verdict == "NOT PRIVATE"
        assert "no mathematical guarantee" in report.note
        assert report.meaningful_population is None


def test_a_sound_run_is_private_unless_something_broke_it() -> None:
    settings = PrivacySettings(mode="central", noise_multiplier=1.0)
    schedule = Schedule(1000, 10, 1000)
    report = privacy_report(settings, schedule, 200_000)
    assert report.private and report.verdict == "Private"
    assert report.epsilon_release == epsilon_release(schedule, 1.0, 1e-5).value
    broken = privacy_report(settings, schedule, 200_000, violations=("A checkpoint was chosen on private clips.",))
    assert not broken.private and "private clips" in broken.to_markdown()
    assert "nothing is promised" in broken.note and "promise of the kind" not in broken.note
    assert "promise of the kind" in report.note


def test_a_guarantee_too_weak_is_not_called_private() -> None:
    report = privacy_report(PrivacySettings(noise_multiplier=0.01), DEMO, 1000)
    assert report.guarantee_holds and not report.private
    assert "too weak" in report.verdict and "practically nothing" in report.note


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_the_suggested_population_reaches_what_it_says(mode: Mode) -> None:
    settings = PrivacySettings(mode=mode, noise_multiplier=0.05)
    schedule = Schedule(20, 10, 20)
    found = meaningful_population(settings, schedule, 5000)
    assert found is not None and found.epsilon_release <= 8
    assert found.noise_multiplier / found.per_round == pytest.approx(0.05 / 10)
    scaled = Schedule(found.clients, found.per_round, 20)
    again = epsilons(settings, scaled, 5000, found.delta, noise_multiplier=found.noise_multiplier)[0]
    assert again.value == found.epsilon_release
    smaller = Schedule(int(0.8 * found.clients), int(0.8 * found.per_round), 20)
    z = 0.05 / 10 * smaller.per_round
    assert epsilons(settings, smaller, 5000, settings.target_delta(smaller.clients), noise_multiplier=z)[0].value > 8


def test_towards_the_server_no_coin_counts_but_what_the_draws_allow() -> None:
    """k is a number that Binomial(T, q) exceeds with half of δ; the other half pays for the k rounds."""
    settings = PrivacySettings(mode="central", noise_multiplier=1.0, delta=1e-4)
    report = privacy_report(settings, Schedule(1000, 10, 1000), 1000)
    k = report.participation
    assert stats.binom.sf(k, 1000, 0.01) <= 5e-5 < stats.binom.sf(k - 1, 1000, 0.01)
    assert report.epsilon_server == epsilon_server(Schedule(1000, 10, 1000), 1.0, 5e-5, participation=k).value
    assert report.epsilon_server < epsilon_server(Schedule(1000, 10, 1000), 1.0, 1e-4, participation=1000).value


def test_what_the_server_saw_follows_the_mode() -> None:
    hidden = privacy_report(PrivacySettings(), DEMO, 1000).server_saw
    clear = privacy_report(PrivacySettings(mode="central", secure_aggregation=False), DEMO, 1000)
    assert any("random numbers" in point for point in hidden)
    assert any("in clear" in point for point in clear.server_saw)
    assert any("server itself" in point for point in clear.not_protected)


@pytest.mark.parametrize(
    ("schedule", "single"),
    [
        (Schedule(50, 5, 3), True),
        (Schedule(50, 1, 3, "fixed"), True),
        (Schedule(50, 5, 3, "fixed"), False),
        (DEMO, False),
    ],
)
def test_a_trusted_server_sees_the_update_of_a_cohort_of_one(schedule: Schedule, single: bool) -> None:
    saw = " ".join(privacy_report(PrivacySettings(mode="central"), schedule, 1000).server_saw)
    assert ("that client's own" in saw) is single and ("No single one" in saw) is not single


def test_markdown_names_delta_and_both_epsilons() -> None:
    text = privacy_report(PrivacySettings(noise_multiplier=0.5), DEMO, 1000).to_markdown()
    for part in ("ε of the released model", "ε towards the server", "zero-out", "What is not protected"):
        assert part in text


def test_epsilon_release_is_the_accountants() -> None:
    settings = PrivacySettings(mode="central", noise_multiplier=0.7, delta=1e-3)
    report = privacy_report(settings, Schedule(50, 5, 30), 100)
    assert report.epsilon_release == epsilon_release(Schedule(50, 5, 30), 0.7, 1e-3).value


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("person", "one person's clips were used"),
        ("client (several people)", "one client's, which are several people's, clips were used"),
        ("part of a person", "which may be a part of one person's, clips were used"),
    ],
)
def test_the_note_promises_to_what_a_client_is(unit: str, said: str) -> None:
    note = plain_note(PrivacySettings(), DEMO, 1.0, Together(1.0, "PLD", 1), 1e-6, False, None, unit)
    assert f"{said} changes the odds" in note


FEW = Schedule(10, 10, 2, "full")
LOUD = PrivacySettings(noise_multiplier=4.0)


@pytest.mark.parametrize("epsilon", [50.0, None])
def test_the_verdict_is_about_all_releases_on_the_same_clients(epsilon: float | None) -> None:
    alone = privacy_report(LOUD, FEW, 100)
    assert alone.private and alone.together == Together(alone.epsilon_release, alone.accountant_release, 1)
    many = privacy_report(LOUD, FEW, 100, together=Together(epsilon, "sum", 3, ("fedavg",)))
    assert many.guarantee_holds and not many.private and many.together == Together(epsilon, "sum", 3, ("fedavg",))
    # Where this one is the only one, its own figure stands, and so do the names of those that promise nothing.
    only = privacy_report(LOUD, FEW, 100, together=Together(epsilon, "sum", 1, ("fedavg",)))
    assert only.private and only.together == Together(alone.epsilon_release, alone.accountant_release, 1, ("fedavg",))


def test_what_is_said_of_one_clients_rounds_leaves_half_of_delta() -> None:
    drawn = Schedule(1000, 10, 100)
    assert privacy_report(LOUD, drawn, 100).participation == drawn.participation_but_for(LOUD.target_delta(1000) / 2)
    assert drawn.participation_but_for(5e-6) > drawn.participation_but_for(1e-5)


def test_without_noise_delta_is_no_further_fault() -> None:
    bare = PrivacySettings(mode="none", secure_aggregation=False, delta=0.5)
    (only,) = privacy_report(bare, FEW, 100).violations
    assert "No noise" in only


def test_noise_without_a_proof_is_no_guarantee() -> None:
    literal = PrivacySettings(mode="local_no_proof", secure_aggregation=False, noise_multiplier=9.0)
    report = privacy_report(literal, FEW, 100)
    assert not report.guarantee_holds and not report.private and "no client-level proof" in report.violations[0]


def test_a_delta_that_is_no_promise_makes_no_guarantee() -> None:
    for delta, holds in ((1e-3, True), (0.0011, False), (0.5, False)):
        report = privacy_report(PrivacySettings(noise_multiplier=50.0, delta=delta), FEW, 100)
        assert report.guarantee_holds == report.private == holds
        assert holds or "is no promise among 10 clients" in report.violations[0]


@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        ({}, (4.0, False, True)),
        ({"seeded_noise": 1}, (4.0, True, False)),
        ({"tuned_on_clients": True}, (4.0, False, False)),
        ({"mode": "central"}, (4.0, False, True)),
        ({"mode": "none"}, (0.0, False, False)),
    ],
)
def test_the_report_says_what_noise_there_was_and_whether_anything_is_promised(changes: dict, figures: tuple) -> None:
    report = privacy_report(LOUD.model_copy(update=changes), FEW, 100)
    assert (report.noise_multiplier, report.seeded_noise, report.private) == figures
    assert report.guarantee_holds == report.private == (not report.violations)
