"""Consent records: one per client, kept in that client's own folder, asked before training and generation.

A record notes what somebody agreed to elsewhere, on paper or by contract; it replaces neither. A client without a
record has not agreed, unless `training.consent.required` is false because something else covers the corpus (a research
licence such as LRS3's). Public speakers, volunteers and unseen people need no record. A record that was revoked, has
expired or does not cover a use forbids that use in any role, whatever the setting says. A client of several people may
be used only for what none of them forbids.

Files of people are opened through `preparation.shards.gate`, which asks here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import write_text
from common.folders import RunFolder
from common.settings import Settings
from common.text.commands import command
from common.text.names import composed, own_spelling
from common.text.tables import Row
from common.text.tables import read_table as read_rows
from preparation.clients.roles import Client, ClientTable, load_clients, of_role

Use = Literal["training", "generation"]
USES: tuple[Use, ...] = get_args(Use)
RENDERED = "nobody: a rendered face"
COLUMNS = ("client", "who", "scope", "expires")


class Consent(Settings):
    """What one client agreed to. Dates are days, in UTC; a record holds to the end of the day that `expires` names."""

    who: str = Field(min_length=1, description="the person or people, as they signed")
    scope: tuple[Use, ...] = Field(USES, description="training: to share in models. generation: to be generated")
    granted: datetime.date
    expires: datetime.date | None = None
    revoked: datetime.date | None = None
    source: Literal["rendered", "file", "command"] = "command"

    def objection(self, use: Use, today: datetime.date) -> str | None:
        """Why the record forbids a use, or None."""
        if self.revoked is not None:
            return f"revoked on {self.revoked}"
        if self.expires is not None and self.expires < today:
            return f"expired on {self.expires}"
        return None if use in self.scope else f"covers {' and '.join(self.scope) or 'nothing'}, not {use}"


def now() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def read_consent(run: RunFolder, client: str) -> Consent | None:
    """A client's record; None where there is none. A record that cannot be read is an error, not consent."""
    path = run.consent(client)
    try:
        return Consent.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CorruptFileError(
            f"the consent record {path} cannot be read", "mend or remove it; without it nothing is agreed"
        ) from error


def write_consent(run: RunFolder, client: str, consent: Consent) -> None:
    write_text(run.consent(client), consent.model_dump_json(indent=2) + "\n")


def objection_to(
    run: RunFolder, client: str, use: Use, required: bool, today: datetime.date | None = None
) -> str | None:
    """Why a use of somebody is forbidden; None where it is allowed. `required`: whether a client needs a record.

    The people whose clips a client holds are asked too: where one of them forbids the use, it is forbidden for the
    client. A simulated client without a record of its own is allowed where each of its people has a record; the guests
    of a host need one each.
    """
    today = today or now()
    entry = known_people(run).get(client)
    people = people_of(client, entry) if entry else []
    own, records = read_consent(run, client), {name: read_consent(run, name) for name in people if name != client}
    if own is not None and (reason := own.objection(use, today)):
        return reason
    for person, record in records.items():
        if record is not None and (reason := record.objection(use, today)):
            return f"{person}: {reason}"
    unrecorded = [person for person, record in records.items() if record is None]
    # A host's own record is one person's and does not cover the guests; a simulated client's is what all agreed to.
    if own is not None and (client not in people or not (required and unrecorded)):
        return None
    if own is None and records and client not in people and not unrecorded:
        return None
    if own is not None:
        return f"{unrecorded[0]}: not recorded"
    # Somebody whom no table names is treated as a client.
    return "not recorded" if required and (entry is None or entry.role == "client") else None


def known_people(run: RunFolder) -> ClientTable:
    """Everybody in the run's tables: people by the corpus's folders, and clients, whose entries take precedence."""
    paths = [path for path in (run.people_table, run.clients_table) if path.exists()]
    return _merged(tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=8)
def _merged(tables: tuple[tuple[Path, int], ...]) -> ClientTable:
    """The tables in one, cached by the files' times of change: they are asked for every client of every round."""
    return {name: entry for path, _ in tables for name, entry in load_clients(path).items()}


def objections(run: RunFolder, clients: Iterable[str], use: Use, required: bool) -> dict[str, str]:
    """The clients whose use is forbidden, each with the reason."""
    today = now()
    found = {client: objection_to(run, client, use, required, today) for client in clients}
    return {client: reason for client, reason in found.items() if reason is not None}


def check_generation(run: RunFolder, client: str, required: bool, adapter: str | None = None) -> None:
    """Raise PrivFedTalkError where generating with an adapter fitted to a client, by default its own, is forbidden."""
    reason = objection_to(run, client, "generation", required)
    if reason is not None:
        who = client if adapter in (None, client) else f"the adapter {adapter} is fitted to {client}, who"
        raise PrivFedTalkError(
            f"{who} has not agreed to be generated: {reason}",
            f"ask, then: {command('consent grant', client, run=run.root, who='NAME')}",
        )


def record_rendered(run: RunFolder) -> None:
    """Write a record for each client of a rendered corpus that has none: its face is nobody's."""
    for client in of_role(load_clients(run.clients_table), "client"):
        if not run.consent(client).exists():
            write_consent(run, client, Consent(who=RENDERED, granted=now(), source="rendered"))


def record_from_file(run: RunFolder, path: Path) -> list[str]:
    """Write the records that a table gives, and return the clients that still have no record.

    The table is CSV with the columns `client` (a client, or a person where clients were dealt from several), `who`,
    `scope` (`training;generation`; empty: both) and `expires` (2027-12-31; empty: never). It may list people of every
    role. A client of several people gets what all of them agreed to. Revoked records stay revoked.
    """
    table = load_clients(run.clients_table)
    rows = _of_this_run(path, read_table(path), table)
    for name, row in rows.items():
        earlier = read_consent(run, name)
        if earlier is None or earlier.revoked is None:
            write_consent(run, name, row)
    unrecorded: list[str] = []
    for client in of_role(table, "client"):
        consent = _agreed(rows, client, table[client])
        before = read_consent(run, client)
        if consent is None:
            if before is None:
                unrecorded.append(client)
        elif before is None or before.revoked is None:
            write_consent(run, client, consent)
    return unrecorded


def read_table(path: Path) -> dict[str, Consent]:
    """The rows of a consent table by client, spelled as in the table; an error names the line.

    A client may be listed twice with the same answers; different answers are an error, as nobody knows which holds.
    """
    found: dict[str, tuple[int, str, Consent]] = {}
    for row in read_rows(path, COLUMNS, "the consent table"):
        name, consent = row.cells["client"], _consent(row, f"{path}, line {row.line}")
        if not name:
            raise PrivFedTalkError(f"{path}, line {row.line} names no client", "write whose consent it is")
        line, _, earlier = found.setdefault(composed(name), (row.line, name, consent))
        if earlier != consent:
            raise PrivFedTalkError(
                f"{path} names {name} twice with different answers, in lines {line} and {row.line}",
                "leave the line that holds and remove the other; nothing was recorded",
            )
    return {name: consent for _, name, consent in found.values()}


def _consent(row: Row, where: str) -> Consent:
    cells = row.cells
    scope = [part.strip() for part in cells["scope"].split(";") if part.strip()]
    values = {"who": cells["who"], "scope": scope or USES, "expires": cells["expires"] or None}
    try:
        return Consent.model_validate({**values, "granted": now(), "source": "file"})
    except ValidationError as error:
        first = error.errors()[0]
        raise PrivFedTalkError(
            f"{where}: {'.'.join(str(part) for part in first['loc'])} {first['input']!r}: {first['msg']}",
            "scope takes training and generation, with a semicolon between them; expires a day as 2027-12-31",
        ) from error


def _of_this_run(path: Path, rows: Mapping[str, Consent], table: ClientTable) -> dict[str, Consent]:
    """The rows by name, spelled as in this run; an error where a row names nobody of this run."""
    known = {name for client, entry in table.items() for name in (client, *people_of(client, entry))}
    spelled = {name: own_spelling(name, known) for name in rows}
    strangers = sorted(name for name, own in spelled.items() if own is None)
    if strangers:
        raise PrivFedTalkError(
            f"{path} names {', '.join(strangers[:5])}, who {'are' if len(strangers) > 1 else 'is'} not in this run",
            "name clients as `privfedtalk clients` lists them; nothing was recorded",
        )
    return {own: rows[name] for name, own in spelled.items() if own is not None}


def people_of(client: str, entry: Client) -> list[str]:
    """The people whose clips a client holds, sorted; the client itself where it has no clips."""
    return sorted({entry.person_of(clip) for clip in entry.clips()}) or [client]


def _agreed(rows: Mapping[str, Consent], client: str, entry: Client) -> Consent | None:
    """A client's own row, or what all of its people agreed to; None where one of them is not in the table."""
    if client in rows:
        return rows[client]
    people = people_of(client, entry)
    if not all(person in rows for person in people):
        return None
    every = [rows[person] for person in people]
    return Consent(
        who="; ".join(each.who for each in every),
        scope=tuple(use for use in USES if all(use in each.scope for each in every)),
        granted=now(),
        expires=min((each.expires for each in every if each.expires is not None), default=None),
        source="file",
    )
