"""The ledger: which sums each federation opens on whose clips, noted before they are opened and never removed.

A checkpoint may be discarded and a method trained anew, but what was opened was seen. So the run keeps one file that
only grows, outside every method's folder, and each client keeps a file of its own beside its clips.
`training.claims.account` composes the federations of both.

Lines, by `event`:
  begins   a federation: its id, method, clients, and what it promises (the mechanism of every round), or why nothing
  opens    a round's sum is about to be opened: round, attempt, cohort; the line is on the disk before the sum is opened
  closed   the round's record is saved: its outcome, and whether one client more or fewer would have changed it
  ended    the federation's report is being made; it composes everything before this line
A round that opens twice was interrupted after its sum may have been seen; both count.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError
from training.privacy.accounting.signed_log import SIGNATURE, RunKey

KEY = "signing.key"


@dataclass(frozen=True)
class Entry:
    """One federation in the ledger. `promise` is None where it promises nothing; `why` then gives the reason."""

    federation: str
    method: str
    clients: tuple[str, ...]
    promise: Mapping[str, Any] | None
    why: str
    opened: int
    """Sums that were opened, or may have been."""
    drawn: int
    """Rounds whose cohort was drawn, whatever their outcome; an interrupted attempt counts as one."""
    repeated: int
    """Those of the drawn rounds that repeat a round whose sum may have been seen."""
    near: bool
    """Whether one client more or fewer would have decided whether some round's sum was opened."""

    def with_sum(self, again: bool) -> Entry:
        """The entry with one more sum that was opened; `again`: of a round whose sum had been opened before."""
        return replace(self, opened=self.opened + 1, drawn=self.drawn + 1, repeated=self.repeated + again)


class Ledger:
    """The ledger at `path`, signed by the key beside it. `of_client` gives the path of each client's own ledger."""

    def __init__(self, path: Path, of_client: Callable[[str], Path] | None = None) -> None:
        self.path, self._of_client = path, of_client
        self.key = RunKey.open(path.with_name(KEY))

    def lines(self) -> list[dict[str, Any]]:
        """All lines, oldest first; CorruptFileError where one was changed, taken out or put in."""
        if not self.path.exists():
            return []
        lines = _read(self.path)
        if objection := self.key.objection(lines):
            raise CorruptFileError(f"{self.path}: {objection}", _REMEDY)
        return lines

    def begins(
        self, federation: str, method: str, clients: Sequence[str], promise: Mapping[str, Any] | None, why: str = ""
    ) -> None:
        """Note that a federation begins, once: one that goes on after an interruption is in the ledger already."""
        if any(line["federation"] == federation for line in self.lines()):
            return
        facts: dict[str, Any] = {"federation": federation, "method": method, "promise": promise, "why": why}
        self._append({"event": "begins", **facts, "clients": list(clients)})
        for client in clients:
            self._append_for(client, {"event": "begins", **facts, "among": len(clients)})

    def opens(self, federation: str, number: int, attempt: int, cohort: Sequence[str]) -> None:
        """Note that a sum is about to be opened; the line is on the disk when this returns."""
        line = {"event": "opens", "federation": federation, "round": number, "attempt": attempt}
        self._append({**line, "cohort": list(cohort)})
        for client in cohort:
            self._append_for(client, line)

    def closed(self, federation: str, number: int, outcome: str, near: bool) -> None:
        """Note that the round's record is saved."""
        self._append({"event": "closed", "federation": federation, "round": number, "outcome": outcome, "near": near})

    def ended(self, federation: str) -> None:
        """Note that the federation's report is being made."""
        self._append({"event": "ended", "federation": federation})

    def lost(self, federation: str, number: int) -> list[list[str]]:
        """The cohorts of all attempts at opening round `number`, for a round of which no record was saved."""
        return [
            list(line["cohort"])
            for line in self.lines()
            if line["federation"] == federation and line["event"] == "opens" and line["round"] == number
        ]

    def entries(self, until: str | None = None) -> list[Entry]:
        """All federations in the order in which they began; with `until`, as of the last end of that federation."""
        lines = self.lines()
        ends = [i for i, line in enumerate(lines) if (line["event"], line["federation"]) == ("ended", until)]
        return _entries(lines[: ends[-1] + 1] if ends else lines)

    def brought_along(self, client: str, known: Container[str]) -> list[Entry]:
        """Federations of other runs in the client's own ledger, each counted with all the rounds that it planned."""
        path = self._of_client(client) if self._of_client else None
        if path is None or not path.exists():
            return []
        found = []
        for line in _read(path):
            if line["event"] == "begins" and line["federation"] not in known:
                planned = line["promise"]["rounds"] if line["promise"] else 0
                facts = (line["federation"], line["method"], (client,), line["promise"], line["why"])
                found.append(Entry(*facts, opened=planned, drawn=planned, repeated=0, near=True))
        return found

    def _append(self, line: Mapping[str, Any]) -> None:
        def signed(last: str) -> Mapping[str, Any]:
            return {**line, SIGNATURE: self.key.sign(line, json.loads(last)[SIGNATURE] if last else "")}

        _write(self.path, signed)

    def _append_for(self, client: str, line: Mapping[str, Any]) -> None:
        if self._of_client is not None:
            _write(self._of_client(client), lambda last: line)


def _whole_lines(text: str) -> list[str]:
    """The complete lines of a text. A killed process can leave half a line, on which nothing can depend yet: whatever
    follows from a line happens after the whole line is on the disk."""
    return text.split("\n")[:-1]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in _whole_lines(path.read_text(encoding="utf-8"))]
    except ValueError as error:
        raise CorruptFileError(f"{path} is no ledger: {error}", _REMEDY) from error


def _write(path: Path, line_after: Callable[[str], Mapping[str, Any]]) -> None:
    """Append `line_after(last line)`, where the last line is "" in an empty file; on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        written = file.read()
        whole = _whole_lines(written)
        if not written.endswith("\n"):  # half a line is in the way
            file.truncate(sum(len(line.encode()) + 1 for line in whole))
        line = line_after(whole[-1] if whole else "")
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


_REMEDY = "put the whole file back from a copy; without it nobody knows what the clients have spent"
_COSTLESS = ("aborted", "empty")


def _entries(lines: Sequence[Mapping[str, Any]]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for line in lines:
        name = line["federation"]
        match line["event"]:
            case "begins":
                clients = tuple(line["clients"])
                found[name] = Entry(name, line["method"], clients, line["promise"], line["why"], 0, 0, 0, False)
            case "opens":
                found[name] = found[name].with_sum(again=line["attempt"] > 1)
            case "closed":
                entry = found[name]
                opened = entry.opened - (line["outcome"] in _COSTLESS)
                found[name] = replace(entry, opened=opened, near=entry.near or line["near"])
    return list(found.values())
