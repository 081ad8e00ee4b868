"""A model that was trained under rules that did not hold is marked, whatever its files say."""

from __future__ import annotations

import json
from pathlib import Path

from common.folders import RunFolder
from evaluation.report.privacy_page import write_privacy_reports
from tests.training.privacy_records import round_record, settings_with, write_method
from training.claims.outdated import SENTENCE, mark_outdated
from training.claims.verification import contradictions_of

NEW = ("rules", "together", "epsilon_client", "accountant_client")


def test_an_older_report_is_marked_wherever_it_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    report = write_method(run, "privfedtalk", settings_with(), [round_record(1), round_record(2)])
    older = {name: value for name, value in report.items() if name not in NEW} | {"took_part": {"2": 10}}
    path = run.federation("privfedtalk") / "privacy.json"
    path.write_text(json.dumps(older))
    assert older["private"] and contradictions_of(run, "privfedtalk")
    assert mark_outdated(run, "privfedtalk")
    assert contradictions_of(run, "privfedtalk") == []
    marked = json.loads(path.read_text())
    assert not marked["private"] and not marked["guarantee_holds"] and SENTENCE in marked["mark"]
    assert SENTENCE in json.loads((run.adapter("privfedtalk") / "privfedtalk.json").read_text())["privacy"]
    (page,) = write_privacy_reports(run, ["privfedtalk"], tmp_path / "out")
    for file in (page, page.with_suffix(".md"), page.with_suffix(".json")):
        text = file.read_text()
        assert "did not hold" in text and "NOT PRIVATE" in text and "took_part" not in text
    mark_outdated(run, "privfedtalk")
    assert json.loads(path.read_text()) == marked


def test_a_report_of_today_stays_as_it_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    report = write_method(run, "privfedtalk", settings_with(), [round_record(1), round_record(2)])
    assert not mark_outdated(run, "privfedtalk")
    assert json.loads((run.federation("privfedtalk") / "privacy.json").read_text()) == report
