"""Coins, keys and the ledger: who may read them, and what is on the disk before anything follows from it."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from common.errors import CorruptFileError
from common.folders import RunFolder
from training.federation.server.checkpoint import begin_checkpoint, resume_federation
from training.privacy.accounting.coins import Coins, client_draws
from training.privacy.accounting.ledger import Ledger
from training.privacy.accounting.promise import promise
from training.privacy.accounting.schedule import Schedule
from training.privacy.accounting.signed_log import RunKey
from training.settings.privacy import PrivacySettings

SECRET = PrivacySettings(noise_multiplier=2.0)
SAMPLED = Schedule(1000, 10, 30)


# Who may read what draws are made of.


def test_clients_draws_never_meet() -> None:
    """Two thousand of them; few bits of entropy behind them would show."""
    drawn = {int(client_draws(SECRET, 0, "local", "c0", "1").integers(2**63)) for _ in range(2000)}
    assert len(drawn) == 2000


def test_a_federation_that_goes_on_keeps_its_name_and_its_coins(tmp_path: Path) -> None:
    begun = begin_checkpoint(tmp_path, "fingerprint", Coins.toss(SECRET, 0))
    assert resume_federation(tmp_path, "fingerprint", 0) == begun and begun.coins.key is not None
    assert resume_federation(tmp_path, "another", 0) is None
    assert begin_checkpoint(tmp_path, "fingerprint", Coins.toss(SECRET, 0)).name != begun.name
    assert (tmp_path / "checkpoint" / "federation.json").stat().st_mode & 0o077 == 0
    open_one = begin_checkpoint(tmp_path, "fingerprint", Coins.toss(PrivacySettings(seeded_noise=1), 3))
    assert resume_federation(tmp_path, "fingerprint", 3) == open_one and open_one.coins == Coins(3)


def test_the_signing_key_is_its_owners_alone_and_no_other_runs(tmp_path: Path) -> None:
    key = RunKey.open(tmp_path / "signing.key")
    assert (tmp_path / "signing.key").stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "signing.key"]
    assert RunKey.open(tmp_path / "signing.key").sign({"a": 1}, "") == key.sign({"a": 1}, "")
    assert RunKey.open(tmp_path / "other.key").sign({"a": 1}, "") != key.sign({"a": 1}, "")


def test_names_may_change_and_their_number_may_not(tmp_path: Path) -> None:
    key = RunKey.open(tmp_path / "signing.key")
    line = {"event": "opens", "cohort": ["ann", "bob"], "simulation": {"clients": {"ann": 1.0}}, "near": False}
    signed = {**line, "signature": key.sign(line, "")}
    assert key.objection([{**signed, "cohort": ["forgotten-1", "bob"], "simulation": {}}]) == ""
    forgeries: list[dict[str, object]] = [{"cohort": ["ann"]}, {"cohort": []}, {"near": True}]
    forgeries += [{"signature": ""}, {"signature": "no hex"}]
    for forged in forgeries:
        assert "line 1" in key.objection([{**signed, **forged}])


# The ledger: on the disk before anything follows from it, one line after the other, and each client's own beside it.


def ledger_of(run: RunFolder) -> Ledger:
    return Ledger(run.ledger, run.client_ledger)


def test_a_line_is_on_the_disk_when_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, on_disk, sync = RunFolder(tmp_path), dict[int, int](), os.fsync

    def fsync(file: int) -> None:
        sync(file)
        on_disk[os.fstat(file).st_ino] = os.fstat(file).st_size

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = ledger_of(run)
    ledger.begins("f", "privfedtalk", ["a"], None, "no noise")
    ledger.opens("f", 1, 1, ["a"])
    for path in (run.ledger, run.client_ledger("a")):
        assert on_disk[path.stat().st_ino] == path.stat().st_size > 0


def test_a_line_waits_for_the_one_before(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    ledger = ledger_of(run)
    ledger.ended("f")
    with run.ledger.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer = threading.Thread(target=ledger.ended, args=("g",))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive() and len(ledger.lines()) == 1
    writer.join(10)
    assert [line["federation"] for line in ledger.lines()] == ["f", "g"]


def test_each_client_keeps_what_it_was_drawn_into(tmp_path: Path) -> None:
    """And brings it into another run: counted with all rounds that were planned, none of them amplified."""
    run = RunFolder(tmp_path)
    told = {**promise(SECRET, SAMPLED, 7), "rounds": 30}
    ledger = ledger_of(run)
    ledger.begins("f", "privfedtalk", ["a", "b"], told)
    ledger.begins("g", "fedavg", ["a"], None, "no noise")
    ledger.opens("f", 1, 1, ["a"])
    ledger.opens("g", 1, 1, ["a"])
    ledger.opens("f", 1, 2, ["a", "b"])
    assert ledger.lost("f", 1) == [["a"], ["a", "b"]] and ledger.lost("f", 2) == [] and ledger.lost("g", 1) == [["a"]]
    assert [line.count('"opens"') for line in (run.client_ledger(name).read_text() for name in "ab")] == [3, 1]
    assert ledger.brought_along("a", {"f", "g"}) == ledger.brought_along("nobody", {}) == []
    spent, costless = ledger.brought_along("a", {})
    assert (spent.federation, spent.opened, spent.drawn, spent.near, spent.promise) == ("f", 30, 30, True, told)
    assert (costless.method, costless.promise, costless.why) == ("fedavg", None, "no noise")
    assert Ledger(run.ledger).brought_along("a", {}) == []


def test_a_name_with_a_line_of_its_own_breaks_no_line(tmp_path: Path) -> None:
    """What Unicode calls a line's end is none to JSON."""
    run, names = RunFolder(tmp_path), ["a\u2028b", "c\x85", "d\x0c"]
    ledger = ledger_of(run)
    ledger.begins("f", "privfedtalk", names, None, "no noise")
    ledger.opens("f", 1, 1, names)
    assert ledger.lost("f", 1) == [names] and ledger.entries()[0].clients == tuple(names)
    assert [entry.clients for entry in ledger.brought_along(names[0], {})] == [(names[0],)]


def test_one_round_that_hung_on_a_client_is_not_made_good_by_the_next(tmp_path: Path) -> None:
    ledger, told = Ledger(tmp_path / "ledger.jsonl"), promise(SECRET, SAMPLED, 7)
    ledger.begins("f", "privfedtalk", ["a", "b"], {**told, "rounds": 9})
    for number, outcome in enumerate(("applied", "rolled back", "aborted", "empty", "applied"), start=1):
        ledger.opens("f", number, 1, ["a"])
        ledger.closed("f", number, outcome, near=number == 2)
    (entry,) = ledger.entries()
    assert (entry.near, entry.opened, entry.drawn) == (True, 3, 5)


def test_half_a_line_in_a_clients_ledger_is_no_event_and_spoils_none(tmp_path: Path) -> None:
    """A disk was full, or the power went. What cannot be read otherwise is an error that names the file."""
    run = RunFolder(tmp_path)
    ledger = ledger_of(run)
    ledger.begins("f", "privfedtalk", ["a"], None, "no noise")
    with run.client_ledger("a").open("a") as file:
        file.write('{"event": "ope')
    assert [entry.federation for entry in ledger.brought_along("a", {})] == ["f"]
    ledger.begins("g", "privfedtalk", ["a"], None, "no noise")
    assert [entry.federation for entry in ledger.brought_along("a", {})] == ["f", "g"]
    run.client_ledger("a").write_text("{}}\n")
    with pytest.raises(CorruptFileError, match="is no ledger"):
        ledger.brought_along("a", {})
