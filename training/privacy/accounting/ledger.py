"""The ledger: what each federation has opened on whose clips, before it is opened, and never taken back.

A checkpoint may be discarded and a method trained anew, but what was opened was seen. So the run keeps one file that
only grows, outside every method's folder, and each client one of its own, beside its clips.
`training.claims.account` composes what stands there.

Lines, by `event`:
  begins   a federation: its id, method, clients, and what it promises (the mechanism of every round), or why nothing
  opens    a round is about to be opened: its number, the attempt, its cohort. Written and on the disk before the sum is
  closed   the round's record is saved: its outcome, and whether a client more or fewer would have changed it
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
    """A federation as the ledger has it. `promise` is None where it promises nothing, and `why` says why."""

    federation: str
    method: str
    clients: tuple[str, ...]
    promise: Mapping[str, Any] | None
    why: str
    opened: int
    """Sums that were opened, or may have been."""
    drawn: int
    """Rounds that were drawn, whatever became of them; an interrupted attempt counts as one."""
    near: bool
    """Whether some round opened, or did not, by one client more or fewer."""


class Ledger:
    """The ledger at `path`, signed by the key beside it; `of_client` says where each client keeps its own lines."""

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
        """A federation begins, or goes on after an interruption; noted once."""
        if any(line["federation"] == federation for line in self.lines()):
            return
        facts: dict[str, Any] = {"federation": federation, "method": method, "promise": promise, "why": why}
        self._append({"event": "begins", **facts, "clients": list(clients)})
        for client in clients:
            self._tell(client, {"event": "begins", **facts, "among": len(clients)})

    def opens(self, federation: str, number: int, attempt: int, cohort: Sequence[str]) -> None:
        """A sum is about to be opened; on the disk when this returns."""
        line = {"event": "opens", "federation": federation, "round": number, "attempt": attempt}
        self._append({**line, "cohort": list(cohort)})
        for client in cohort:
            self._tell(client, line)

    def closed(self, federation: str, number: int, outcome: str, near: bool) -> None:
        """The round's record is saved."""
        self._append({"event": "closed", "federation": federation, "round": number, "outcome": outcome, "near": near})

    def ended(self, federation: str) -> None:
        """The federation's report is being made."""
        self._append({"event": "ended", "federation": federation})

    def lost(self, federation: str, number: int) -> list[list[str]]:
        """The cohorts of earlier attempts at a round of which no record was saved."""
        return [
            list(line["cohort"])
            for line in self.lines()
            if line["federation"] == federation and line["event"] == "opens" and line["round"] == number
        ]

    def entries(self, until: str | None = None) -> list[Entry]:
        """Every federation, in the order of their beginnings; with `until` as things stood when that one last ended."""
        lines = self.lines()
        ends = [i for i, line in enumerate(lines) if (line["event"], line["federation"]) == ("ended", until)]
        return _entries(lines[: ends[-1] + 1] if ends else lines)

    def brought_along(self, client: str, known: Container[str]) -> list[Entry]:
        """Federations of other runs that the client's own ledger tells of, each counted with all rounds it planned."""
        path = self._of_client(client) if self._of_client else None
        if path is None or not path.exists():
            return []
        found = []
        for line in _read(path):
            if line["event"] == "begins" and line["federation"] not in known:
                planned = line["promise"]["rounds"] if line["promise"] else 0
                facts = (line["federation"], line["method"], (client,), line["promise"], line["why"])
                found.append(Entry(*facts, opened=planned, drawn=planned, near=True))
        return found

    def _append(self, line: Mapping[str, Any]) -> None:
        def signed(last: str) -> Mapping[str, Any]:
            return {**line, SIGNATURE: self.key.sign(line, json.loads(last)[SIGNATURE] if last else "")}

        _write(self.path, signed)

    def _tell(self, client: str, line: Mapping[str, Any]) -> None:
        if self._of_client is not None:
            _write(self._of_client(client), lambda last: line)


def _whole_lines(text: str) -> list[str]:
    """What a killed process left of a line is no event: it is on the disk whole before anything follows from it."""
    return text.split("\n")[:-1]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in _whole_lines(path.read_text(encoding="utf-8"))]
    except ValueError as error:
        raise CorruptFileError(f"{path} is no ledger: {error}", _REMEDY) from error


def _write(path: Path, line_after: Callable[[str], Mapping[str, Any]]) -> None:
    """Append the line that follows the last one ("" before the first); on the disk when this returns."""
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
                found[name] = Entry(name, line["method"], clients, line["promise"], line["why"], 0, 0, False)
            case "opens":
                entry = found[name]
                found[name] = replace(entry, opened=entry.opened + 1, drawn=entry.drawn + 1)
            case "closed":
                entry = found[name]
                opened = entry.opened - (line["outcome"] in _COSTLESS)
                found[name] = replace(entry, opened=opened, near=entry.near or line["near"])
    return list(found.values())
