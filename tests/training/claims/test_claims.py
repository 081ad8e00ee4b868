"""A broken rule is found in the records, marked in the report, and no file can claim otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.folders import RunFolder
from tests.training.privacy_records import CLIENTS, round_record, settings_with, using, write_method
from training.claims.account import account
from training.claims.report import PrivacyReport, budget_split, privacy_report
from training.claims.verification import contradictions, contradictions_of
from training.claims.violations import violations
from training.federation.server.checkpoint import RoundRecord
from training.federation.server.spending import schedule_of
from training.privacy.accounting.guarantee import Together
from training.privacy.accounting.schedule import Schedule
from training.privacy.mechanisms.release import adapted_clip_norm
from training.settings import TrainingSettings


def plain(report: PrivacyReport) -> dict:
    """The report as its file has it."""
    return json.loads(json.dumps(report.to_json()))


SOUND = [round_record(1), round_record(2)]
BROKEN = {
    "fewer clients than the noise": [round_record(1), round_record(2, survivors=7, returned=CLIENTS[:7])],
    "a clipping norm that does not follow": [round_record(1), round_record(2, clip_norm=0.6)],
    "did not clip": [round_record(1, simulation={"faults": {"c3": "unclipped"}}), round_record(2)],
}


def test_a_sound_run_is_private_and_nothing_is_said_against_it() -> None:
    report = account("privfedtalk", settings_with(), 10, SOUND, 1000)
    assert report.private and report.mark.startswith("Private: ε = ") and "δ = 1e-05" in report.mark
    assert contradictions("privfedtalk", plain(report), using(settings_with(), SOUND)) == []


@pytest.mark.parametrize("reason", BROKEN)
def test_a_rule_that_was_broken_is_a_violation(reason: str) -> None:
    report = account("privfedtalk", settings_with(), 10, BROKEN[reason], 1000)
    assert not report.private and not report.guarantee_holds
    assert reason in report.violations[0] and reason in report.mark and report.mark.startswith("NOT PRIVATE")
    # A report that keeps silent about it is caught.
    silent = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    found = contradictions("privfedtalk", silent, using(settings_with(), BROKEN[reason]))
    assert any(reason in line for line in found) and any("private" in line for line in found)


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


def test_cohorts_from_a_known_seed_are_a_violation_where_secret_ones_are_promised() -> None:
    federation = settings_with().federation.model_copy(update={"sampling": "poisson", "clients_per_round": 10})
    settings = settings_with().model_copy(update={"federation": federation})
    records = using(settings, SOUND, clients=1000)
    for secret in (True, False):
        drawn = [replace(one, mechanism={**one.mechanism, "secret_cohorts": secret}) for one in records]
        report = account("privfedtalk", settings, 1000, drawn, 1000)
        assert report.guarantee_holds is secret
        assert secret or "drew the cohort from a known seed" in report.mark


def test_a_known_seed_breaks_no_rule_where_no_coin_is_drawn_or_the_settings_say_so_themselves() -> None:
    """Where everybody takes part nobody is drawn; of seeded noise the settings tell by themselves."""
    open_coins = [round_record(1, mechanism={"secret_cohorts": False}, survivors=8, returned=CLIENTS[:8])]
    assert broken(settings_with(), open_coins) == ()
    assert broken(sampled(seeded_noise=1), open_coins) == ()
    assert "known seed" in broken(sampled(), open_coins)[0]
    # The report of seeded noise names the seed, and not the cohorts as well.
    report = account("privfedtalk", sampled(seeded_noise=1), 10, open_coins, 1000)
    assert not report.private and not any("drew the cohort" in line for line in report.violations)


def broken(settings: TrainingSettings, records: list[RoundRecord]) -> tuple[str, ...]:
    """Among ten clients."""
    return violations("privfedtalk", settings.privacy, schedule_of(settings, 10, records), records)


def test_rules_are_kept_up_to_their_edge() -> None:
    """As few as the floor, as many as are drawn, as often as the cap: no more is promised, and no less."""
    floor = settings_with().privacy.minimum_survivors(10)
    edge = [round_record(1, survivors=floor, returned=CLIENTS[:floor]), round_record(2, within_clip=0.9)]
    assert broken(settings_with(max_participation=2), edge) == ()
    few = [round_record(1, survivors=floor - 1, returned=CLIENTS[: floor - 1])]
    assert "fewer clients" in broken(settings_with(), few)[0]
    assert broken(settings_with(), [replace(few[0], outcome="aborted")]) == (), "nothing was opened"
    settings = sampled()
    fixed = settings.federation.model_copy(update={"sampling": "fixed", "clients_per_round": 5})
    settings = settings.model_copy(update={"federation": fixed})
    five, six = (round_record(1, clients=CLIENTS[:n], returned=CLIENTS[:n], survivors=n) for n in (5, 6))
    assert broken(settings, [five]) == ()
    assert "Round 1 took more than the 5 clients" in broken(settings, [six])[0]
    assert broken(sampled(), [six]) == (), "Poisson sampling draws now more, now fewer"


def test_a_clipping_norm_stays_unless_a_share_that_was_paid_for_moved_it() -> None:
    moved = [round_record(1, within_clip=0.9), round_record(2, within_clip=0.1)]
    assert broken(settings_with(), moved) == ()
    adaptive = settings_with(adaptive_clipping=True)
    for unused in ({"outcome": "rolled back", "within_clip": 0.9}, {"within_clip": None}):
        records = [round_record(1, **unused), round_record(2)]
        assert broken(adaptive, records) == ()
    assert "clipping norm" in broken(adaptive, moved)[0]


def test_a_report_of_older_rules_may_claim_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    report = write_method(run, "privfedtalk", settings_with(), SOUND)
    path = run.federation("privfedtalk") / "privacy.json"
    older = {name: value for name, value in report.items() if name != "rules"}
    for rules in (older, {**older, "rules": 1}):
        path.write_text(json.dumps(rules))
        assert contradictions_of(run, "privfedtalk") == ["a guarantee is claimed under rules that did not hold"]
        path.write_text(json.dumps({**rules, "guarantee_holds": False}))
        assert contradictions_of(run, "privfedtalk") == []


def test_a_pooled_training_beside_other_releases_contradicts_nothing(tmp_path: Path) -> None:
    """What those cost stands in its report, though it promises nothing itself."""
    run = RunFolder(tmp_path)
    for method in ("privfedtalk", "dp_only"):
        write_method(run, method, settings_with(noise_multiplier=50.0), SOUND)
    report = write_method(run, "centralized", settings_with(), SOUND)
    assert report["together"]["releases"] == 2 and not report["guarantee_holds"]
    assert contradictions_of(run, "centralized") == []


def test_each_round_is_held_against_what_it_says_it_used() -> None:
    records = using(settings_with(), SOUND)
    report = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    quiet = [records[0], replace(records[1], mechanism={**records[1].mechanism, "noise_deviation": 0.1})]
    assert "round 2 added noise of another size" in contradictions("privfedtalk", report, quiet)[0]
    larger = [records[0], replace(records[1], mechanism={**records[1].mechanism, "dimension": 9999})]
    assert "and round 2 used 9999" in contradictions("privfedtalk", report, larger)[0]


@pytest.mark.parametrize("mode", ["none", "local_no_proof"])
def test_what_promises_nothing_and_says_so_contradicts_nothing(mode: str) -> None:
    settings = settings_with(mode=mode, secure_aggregation=False)
    report = plain(account("privfedtalk", settings, 10, SOUND, 1000))
    assert contradictions("privfedtalk", report, using(settings, SOUND)) == []


def test_abandoned_rounds_count_where_clients_are_drawn_and_not_where_all_take_part() -> None:
    for settings, rounds in ((settings_with(), 1), (sampled(), 2)):
        records = [round_record(1), round_record(2, outcome="aborted", returned=[], survivors=0)]
        report = plain(account("privfedtalk", settings, 10, records, 1000))
        assert report["rounds"] == rounds and contradictions("privfedtalk", report, using(settings, records)) == []


def test_a_report_may_not_name_a_fault_and_promise_all_the_same() -> None:
    report = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    records = using(settings_with(), SOUND)
    assert contradictions("privfedtalk", {**report, "violations": ["Selected on clients."]}, records) == [
        "a guarantee is claimed although a rule was broken",
        "the run is called private, which it is not",
    ]


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
        ({"epsilon_server": 0.1}, "epsilon_server is 0.1"),
        ({"epsilon_client": 0.1}, "epsilon_client is 0.1"),
        ({"together": {"epsilon": 0.1}}, "epsilon_together is 0.1"),
        ({"rounds": 1}, "records have 2 rounds that count, the report has 1"),
        ({"noise_multiplier": 9.0}, "noise_multiplier is 9.0"),
        ({"settings": {"noise_multiplier": 9.0}}, "settings.noise_multiplier is 9.0"),
        ({"settings": {"seeded_noise": 3}}, "settings.seeded_noise is 3"),
        ({"seeded_noise": True}, "seeded_noise is True"),
        ({"delta": 0.01}, "delta is 0.01"),
        ({"clients": 1000}, "clients is 1000"),
        ({"clients_per_round": 1}, "clients_per_round is 1"),
        ({"sampling": "poisson"}, "sampling is poisson"),
        ({"mode": "central"}, "mode is central"),
        ({"dimension": 1}, "dimension is 1"),
        ({"clip_norm": 0.1}, "clip_norm is 0.1"),
        ({"max_participation": 1}, "max_participation is 1"),
        ({"secure_aggregation": False}, "secure_aggregation is False"),
    ],
)
def test_a_report_that_was_made_better_is_caught(change: dict, said: str) -> None:
    """Whatever figure is changed, and whatever else is changed along with it: the rounds' records say otherwise."""
    report = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    change = {name: {**report[name], **value} if isinstance(value, dict) else value for name, value in change.items()}
    records = using(settings_with(), SOUND)
    assert contradictions("privfedtalk", report, records) == []
    assert any(said in line for line in contradictions("privfedtalk", {**report, **change}, records))


def test_a_report_that_agrees_with_itself_and_not_with_the_rounds_is_caught() -> None:
    """Forged as a whole: that of a federation with four times the noise, of which every figure fits every other."""
    louder = plain(account("privfedtalk", settings_with(noise_multiplier=8.0), 10, SOUND, 1000))
    found = contradictions("privfedtalk", louder, using(settings_with(), SOUND))
    assert any("noise_multiplier is 8.0 in the report, and round 1 used 2.0" in line for line in found)
    for reader in ("release", "server", "client", "together"):
        assert any(f"epsilon_{reader} is" in line and "by its accountant" in line for line in found)


def test_epsilon_is_computed_at_the_delta_that_the_rounds_promised() -> None:
    laxer = plain(account("privfedtalk", settings_with(delta=1e-3), 10, SOUND, 1000))
    found = contradictions("privfedtalk", laxer, using(settings_with(), SOUND))
    assert laxer["private"] and any("epsilon_release is" in line and "by its accountant" in line for line in found)


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        ({"seeded_noise": 1}, "not reported: The noise and all other draws came from known seeds"),
        ({"tuned_on_clients": True}, "not reported: Settings or checkpoints were chosen"),
        ({"delta": 0.005}, "not reported: δ = 0.005 is no promise among 10 clients"),
        ({"max_participation": 1}, "not reported: A client took part in 2 rounds"),
    ],
)
def test_what_broke_the_guarantee_is_found_in_the_records_whatever_the_report_keeps_silent(
    privacy: dict, said: str
) -> None:
    """Every figure is the rounds' own, the list of violations alone is empty and the verdict a better one."""
    report = plain(account("privfedtalk", settings_with(**privacy), 10, SOUND, 1000))
    records = using(settings_with(**privacy), SOUND)
    assert report["violations"] and contradictions("privfedtalk", report, records) == []
    better = {**report, "violations": [], "private": True, "guarantee_holds": True}
    found = contradictions("privfedtalk", better, records)
    assert any(line.startswith(said) for line in found)
    assert "a guarantee is claimed although a rule was broken" in found
    assert "the run is called private, which it is not" in found


def sampled(**privacy: object) -> TrainingSettings:
    settings = settings_with(**privacy)
    federation = settings.federation.model_copy(update={"sampling": "poisson", "clients_per_round": 2})
    return settings.model_copy(update={"federation": federation})


def test_a_report_that_forgets_lost_sums_or_rounds_that_hung_on_one_client_is_caught() -> None:
    sound = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    lost = [SOUND[0], replace(SOUND[1], reopened=[CLIENTS, CLIENTS])]
    found = contradictions("privfedtalk", sound, using(settings_with(), lost))
    assert any("records have 4 rounds that count, the report has 2" in line for line in found)
    assert any("epsilon_server is" in line for line in found)
    small = [replace(one, clients=CLIENTS[:2], returned=CLIENTS[:2], survivors=2) for one in SOUND]
    amplified = plain(account("privfedtalk", sampled(), 10, small, 1000))
    assert contradictions("privfedtalk", amplified, using(sampled(), small)) == []
    near = using(sampled(), [small[0], replace(small[1], near_abort=True)])
    assert any("epsilon_release is" in line for line in contradictions("privfedtalk", amplified, near))


def test_a_report_made_before_rounds_said_what_they_used_proves_nothing() -> None:
    report = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    assert contradictions("privfedtalk", report, []) == ["there is no record of any round"]
    half = [using(settings_with(), SOUND)[0], SOUND[1]]
    assert "round 2 does not say what it used" in contradictions("privfedtalk", report, half)[0]


def test_a_weak_run_and_a_run_of_many_releases_are_not_called_private() -> None:
    weak = plain(account("privfedtalk", settings_with(noise_multiplier=0.2), 10, SOUND, 1000))
    records = using(settings_with(noise_multiplier=0.2), SOUND)
    assert weak["guarantee_holds"] and not weak["private"] and contradictions("privfedtalk", weak, records) == []
    assert contradictions("privfedtalk", {**weak, "private": True}, records) == [
        "the run is called private, which it is not"
    ]
    many = privacy_report(settings_with().privacy, Schedule(10, 10, 2, "full"), 1000, together=Together(50.0, "", 40))
    assert many.guarantee_holds and not many.private and "too weak" in many.verdict
    sound, all_of_it = using(settings_with(), SOUND), Together(50.0, "RDP", 40)
    report = plain(account("privfedtalk", settings_with(), 10, SOUND, 1000))
    found = contradictions("privfedtalk", report, sound, all_of_it)
    assert any("epsilon_together is" in line for line in found)
    assert "the run is called private, which it is not" in found
    assert contradictions("privfedtalk", report, sound, Together(None, "no noise", 2)) == [
        f"epsilon_together is {report['together']['epsilon']:.4g} in the report, and inf by its accountant",
        "the run is called private, which it is not",
    ]


def test_records_that_were_changed_are_caught(tmp_path: Path) -> None:
    """Rounds forged along with the report do not carry the run's signature; nor does a log with a round taken out."""
    run = RunFolder(tmp_path)
    write_method(run, "privfedtalk", settings_with(), SOUND)
    assert contradictions_of(run, "privfedtalk") == []
    lines = run.rounds("privfedtalk").read_text().splitlines()
    louder = [line.replace('"noise_multiplier": 2.0', '"noise_multiplier": 8.0') for line in lines]
    assert louder != lines
    for forged in (louder, lines[1:], [lines[0], lines[0]], [lines[1], lines[0]]):
        run.rounds("privfedtalk").write_text("\n".join(forged) + "\n")
        assert any("was not signed by this run" in line for line in contradictions_of(run, "privfedtalk"))


def test_noise_smaller_than_was_promised_is_caught() -> None:
    records = using(settings_with(), SOUND)
    quiet = [replace(one, mechanism={**one.mechanism, "noise_deviation": 0.1}) for one in records]
    report = plain(account("privfedtalk", settings_with(), 10, quiet, 1000))
    assert "added noise of another size" in contradictions("privfedtalk", report, quiet)[0]


@pytest.mark.parametrize(
    ("clients", "delta"), [(8, 0.102), (2, 0.47), (1000, 0.9), (1000, 2e-4), (10**6, 1e-6), (10, 0.0015)]
)
def test_a_delta_that_is_no_promise_is_never_private(clients: int, delta: float) -> None:
    settings = settings_with(noise_multiplier=50.0, delta=delta)
    report = account("privfedtalk", settings, clients, SOUND, 1000)
    assert not report.private and not report.guarantee_holds and report.verdict == "NOT PRIVATE"
    assert "no promise" in report.mark and "no promise" in report.to_markdown()


@pytest.mark.parametrize("clients", [1, 2, 8, 1000, 10**7])
def test_the_default_delta_is_well_below_one_in_the_clients(clients: int) -> None:
    settings = settings_with(noise_multiplier=50.0)
    report = account("privfedtalk", settings, clients, SOUND, 1000)
    assert report.delta <= 0.1 / clients and report.delta <= 1e-3 and report.private


def test_every_sentence_with_an_epsilon_has_its_delta() -> None:
    for settings in (settings_with(), settings_with(seeded_noise=1), settings_with(noise_multiplier=0.05)):
        report = account("privfedtalk", settings, 10, SOUND, 1000)
        sentences = [report.mark, *report.note.split(". "), *report.violations, *report.assumptions]
        assert all("δ" in one for one in sentences if "ε" in one and "ε ≤" not in one), sentences


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
