"""Consent: what a record forbids, where records come from, and that what cannot be read is not a yes."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.consent import (
    RENDERED,
    Consent,
    check_generation,
    objection_to,
    objections,
    people_of,
    read_consent,
    record_from_file,
    record_rendered,
    write_consent,
)
from preparation.clients.roles import Client, Role, save_clients
from preparation.shards.gate import Gate

TODAY = datetime.date(2026, 6, 1)
HEAD = "client,who,scope,expires\n"


def entry(name: str, role: Role, people: dict[str, str] | None = None) -> Client:
    splits = {"train": [f"{person}/1" for person in (people or {name: ""})], "validation": [], "test": []}
    return Client(speaker=name, role=role, splits=splits)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.root.mkdir()
    table = {name: entry(name, "client") for name in ("c0", "c1", "c2")}
    save_clients({**table, "p0": entry("p0", "public")}, folder.clients_table)
    return folder


def agreed(**values: object) -> Consent:
    return Consent.model_validate({"who": "Ada", "granted": "2026-01-01", **values})


@pytest.mark.parametrize(
    ("values", "training", "generation"),
    [
        ({}, None, None),
        ({"expires": "2026-06-01"}, None, None),
        ({"expires": "2026-05-31"}, "expired on 2026-05-31", "expired on 2026-05-31"),
        ({"scope": ["training"]}, None, "covers training, not generation"),
        ({"scope": []}, "covers nothing, not training", "covers nothing, not generation"),
        ({"revoked": "2026-05-01"}, "revoked on 2026-05-01", "revoked on 2026-05-01"),
    ],
)
def test_a_record_allows_what_it_says(values: dict, training: str | None, generation: str | None) -> None:
    consent = agreed(**values)
    assert (consent.objection("training", TODAY), consent.objection("generation", TODAY)) == (training, generation)


def test_silence_is_a_no_only_where_consent_is_required_and_a_no_is_one_always(run: RunFolder) -> None:
    write_consent(run, "c0", agreed())
    write_consent(run, "c1", agreed(revoked="2026-05-01"))
    assert objections(run, ["c0", "c1", "c2"], "training", required=True) == {
        "c1": "revoked on 2026-05-01",
        "c2": "not recorded",
    }
    assert objections(run, ["c0", "c1", "c2"], "training", required=False) == {"c1": "revoked on 2026-05-01"}
    check_generation(run, "c0", required=True)
    with pytest.raises(PrivFedTalkError, match="c2 has not agreed to be generated: not recorded"):
        check_generation(run, "c2", required=True)


def test_a_record_that_cannot_be_read_stops_the_work(run: RunFolder) -> None:
    run.consent("c0").parent.mkdir(parents=True)
    run.consent("c0").write_text('{"who": "Ada"')
    with pytest.raises(PrivFedTalkError, match="cannot be read"):
        objection_to(run, "c0", "training", required=False)


def test_rendered_people_get_records_and_revoked_ones_stay_revoked(run: RunFolder) -> None:
    write_consent(run, "c1", agreed(revoked="2026-05-01"))
    record_rendered(run)
    rendered = read_consent(run, "c0")
    assert rendered is not None and rendered.who == RENDERED
    assert read_consent(run, "p0") is None  # public speakers are no clients
    assert list(objections(run, ["c0", "c1", "c2"], "generation", required=True)) == ["c1"]


def test_a_table_is_recorded_client_by_client(run: RunFolder, tmp_path: Path) -> None:
    write_consent(run, "c1", agreed(revoked="2026-05-01"))
    table = tmp_path / "signed.csv"
    table.write_text(HEAD + "c0,Ada,training,2099-12-31\nc1,Ben,,\n", encoding="utf-8-sig")
    assert record_from_file(run, table) == ["c2"]
    ada = read_consent(run, "c0")
    assert ada is not None and (ada.scope, ada.expires, ada.source) == (
        ("training",),
        datetime.date(2099, 12, 31),
        "file",
    )
    assert objection_to(run, "c1", "training", required=True) == "revoked on 2026-05-01"


def test_a_client_of_several_people_needs_all_of_them(run: RunFolder, tmp_path: Path) -> None:
    both = Client(
        speaker="d0", role="client", splits={"train": ["ann/1", "bob/1"], "validation": [], "test": []},
        people={"ann/1": "ann", "bob/1": "bob"},
    )  # fmt: skip
    save_clients({"d0": both}, run.clients_table)
    table = tmp_path / "signed.csv"
    table.write_text(HEAD + "ann,Ann,training;generation,2099-01-01\n")
    assert record_from_file(run, table) == ["d0"]
    table.write_text(HEAD + "ann,Ann,training;generation,2099-01-01\nbob,Bob,training,2098-01-01\n")
    assert record_from_file(run, table) == []
    record = read_consent(run, "d0")
    assert record is not None
    assert (record.who, record.scope, str(record.expires)) == ("Ann; Bob", ("training",), "2098-01-01")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client,who\nc0,Ada\n", "lacks the columns scope, expires"),
        (HEAD + "c0,Ada,selling,\n", "line 2: scope"),
        (HEAD + "c0,Ada,,soon\n", "line 2: expires 'soon'"),
        (HEAD + "c0,,,\n", "line 2: who ''"),
        (HEAD + "c7,Eve,,\n", "names c7, who is not in this run"),
    ],
)
def test_a_wrong_table_is_refused_and_nothing_recorded(run: RunFolder, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "signed.csv").write_text(text)
    with pytest.raises(PrivFedTalkError, match=said):
        record_from_file(run, tmp_path / "signed.csv")
    assert read_consent(run, "c0") is None


def dealt(run: RunFolder, *people: str) -> None:
    """One simulated client `d0` of these people, and the table of who they are."""
    clips = {f"{person}/1": person for person in people}
    splits = {"train": list(clips), "validation": [], "test": []}
    save_clients({"d0": Client("client", "d0", splits, people=clips)}, run.clients_table)
    save_clients({person: entry(person, "client") for person in people}, run.people_table)


def test_one_of_several_people_who_forbids_it_forbids_it_for_the_client(run: RunFolder) -> None:
    dealt(run, "ann", "bob")
    assert objection_to(run, "d0", "training", required=True) == "not recorded"
    write_consent(run, "ann", agreed())
    assert objection_to(run, "d0", "training", required=True) == "not recorded"
    write_consent(run, "bob", agreed(scope=["training"]))
    assert objection_to(run, "d0", "training", required=True) is None
    assert objection_to(run, "d0", "generation", required=False) == "bob: covers training, not generation"
    write_consent(run, "d0", agreed())  # its own record is no leave to use who forbids it
    assert objection_to(run, "d0", "generation", required=True) == "bob: covers training, not generation"
    write_consent(run, "bob", agreed(revoked="2026-05-01"))
    assert Gate(run, "training", required=False).refused(["d0", "ann", "bob"]) == {
        "d0": "bob: revoked on 2026-05-01",
        "bob": "revoked on 2026-05-01",
    }


def test_a_table_of_people_is_recorded_person_by_person(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "signed.csv").write_text(HEAD + "p0,Pia,training,\nc0,Ada,,\n")
    assert record_from_file(run, tmp_path / "signed.csv") == ["c1", "c2"]
    assert objection_to(run, "p0", "generation", required=True) == "covers training, not generation"
    dealt(run, "ann", "bob")
    (tmp_path / "signed.csv").write_text(HEAD + "ann,Ann,training,\nbob,Bob,,\n")
    assert record_from_file(run, tmp_path / "signed.csv") == []
    assert objection_to(run, "ann", "generation", required=True) == "covers training, not generation"


@pytest.mark.parametrize("role", ["public", "volunteer", "unseen"])
def test_silence_is_no_refusal_of_who_is_no_client_and_a_no_is(run: RunFolder, role: Role) -> None:
    save_clients({"c0": entry("c0", "client"), "x": entry("x", role)}, run.clients_table)
    gate = Gate(run, "generation")
    assert gate.refused(["c0", "x", "nobody"]) == {"c0": "not recorded", "nobody": "not recorded"}
    write_consent(run, "x", agreed(expires="2020-01-01"))
    assert gate.objection("x") == "expired on 2020-01-01"
    with pytest.raises(PrivFedTalkError, match="x has not agreed to generation: expired on 2020-01-01"):
        gate.samples("x")
    with pytest.raises(PrivFedTalkError, match="x has not agreed to generation"):
        gate.crop("x", "x/1")


def test_who_is_left_out_is_named_once_with_the_reason(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_consent(run, "c1", agreed(revoked="2026-05-01"))
    gate = Gate(run, "generation", required=False)
    assert gate.admit(["c2", "c1", "c0"], "the sheet") == gate.admit(["c2", "c1", "c0"], "the sheet") == ["c2", "c0"]
    assert capsys.readouterr().err == "consent: c1 is left out of the sheet: no generation (revoked on 2026-05-01)\n"


def test_a_hosts_record_is_no_leave_to_use_its_guests(run: RunFolder) -> None:
    splits = {"train": ["c0/1", "guest/1"], "validation": [], "test": []}
    save_clients({"c0": Client("client", "c0", splits, people={"guest/1": "guest"})}, run.clients_table)
    write_consent(run, "c0", agreed())
    assert objection_to(run, "c0", "training", required=True) == "guest: not recorded"
    assert objection_to(run, "c0", "training", required=False) is None
    write_consent(run, "guest", agreed())
    assert objection_to(run, "c0", "training", required=True) is None
    run.consent("c0").unlink()
    assert objection_to(run, "c0", "training", required=True) == "not recorded"


def test_a_record_holds_to_the_end_of_its_last_day(run: RunFolder) -> None:
    write_consent(run, "c0", agreed(expires="2026-06-01"))
    assert objection_to(run, "c0", "training", True, today=TODAY) is None
    later = TODAY + datetime.timedelta(days=1)
    assert objection_to(run, "c0", "training", True, today=later) == "expired on 2026-06-01"


def test_a_later_table_says_what_holds_now(run: RunFolder, tmp_path: Path) -> None:
    """Who takes a use back in a new table has taken it back."""
    for name in ("c0", "c1"):
        write_consent(run, name, agreed())
    (tmp_path / "signed.csv").write_text(HEAD + "c0,Ada,training,\n")
    assert record_from_file(run, tmp_path / "signed.csv") == ["c2"], "c1 agreed before, and still does"
    assert objection_to(run, "c0", "generation", required=True) == "covers training, not generation"
    assert objection_to(run, "c1", "generation", required=True) is None
    dealt(run, "ann", "bob")
    for scope in ("training;generation", "training"):
        (tmp_path / "signed.csv").write_text(HEAD + f"ann,Ann,{scope},\nbob,Bob,,\n")
        assert record_from_file(run, tmp_path / "signed.csv") == []
    for name in ("d0", "ann"):
        consent = read_consent(run, name)
        assert consent is not None and consent.scope == ("training",)


def test_a_row_of_a_simulated_client_is_what_its_people_said(run: RunFolder, tmp_path: Path) -> None:
    dealt(run, "ann", "bob")
    (tmp_path / "signed.csv").write_text(HEAD + "d0,Ann and Bob,,\n")
    assert record_from_file(run, tmp_path / "signed.csv") == []
    assert objection_to(run, "d0", "training", required=True) is None
    (tmp_path / "signed.csv").write_text(HEAD + "d0,Ann and Bob,training,\nann,Ann,,\nbob,Bob,,\n")
    record_from_file(run, tmp_path / "signed.csv")
    assert objection_to(run, "d0", "generation", required=True) == "covers training, not generation"
    assert people_of("x", Client("client", "x", {"train": [], "validation": [], "test": []})) == ["x"]


@pytest.mark.parametrize("second", ["c0,Ada,training,", "c0,Eve,,", " c0 ,Ada,,2030-01-01"])
def test_two_answers_of_one_client_are_refused_with_both_lines(run: RunFolder, tmp_path: Path, second: str) -> None:
    (tmp_path / "signed.csv").write_text(HEAD + f"c0,Ada,,\nc1,Ben,,\n{second}\n")
    with pytest.raises(PrivFedTalkError, match="names c0 twice with different answers, in lines 2 and 4"):
        record_from_file(run, tmp_path / "signed.csv")
    assert read_consent(run, "c0") is None and read_consent(run, "c1") is None
    (tmp_path / "signed.csv").write_text(HEAD + "c0,Ada,,\nc1,Ben,,\nc0,Ada,,\n")
    assert record_from_file(run, tmp_path / "signed.csv") == ["c2"], "the same answer twice is one"


def test_a_name_is_one_name_however_its_letters_are_composed(tmp_path: Path) -> None:
    composed, apart = "bj\u00f6rn", "bjo\u0308rn"
    for own, typed in ((composed, apart), (apart, composed)):
        run = RunFolder(tmp_path / own)
        save_clients({own: entry(own, "client")}, run.clients_table)
        (tmp_path / "signed.csv").write_text(HEAD + f"{typed},Björn,,\n", encoding="utf-8")
        assert record_from_file(run, tmp_path / "signed.csv") == []
        assert objection_to(run, own, "training", required=True) is None
    (tmp_path / "signed.csv").write_text(HEAD + f"{composed},Björn,,\n{apart},Björn,training,\n", encoding="utf-8")
    with pytest.raises(PrivFedTalkError, match="twice with different answers, in lines 2 and 3"):
        record_from_file(run, tmp_path / "signed.csv")
