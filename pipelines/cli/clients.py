"""`privfedtalk clients`: who holds what in a prepared run, and how unlike the clients are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from pipelines.terminal.options import JsonOption, ProfilesRunArgument, choose
from pipelines.terminal.text import console, print_json, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from preparation.clients.report import ClientReport
    from preparation.clients.roles import Client
    from preparation.shards.store import ShardIndex

LISTED = 40
SHORT = {"train": "train", "validation": "valid.", "test": "test"}
"""The heads of the splits' columns: short, to leave room for the clients' names."""
PEOPLE, SAMPLES, MB, UNKNOWN = "people", "samples", "MB", "–"


def clients(
    run: ProfilesRunArgument = None,
    every: Annotated[bool, typer.Option("--all", help=f"List everybody, not the first {LISTED} of each role.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the clients of a prepared run: role, people, clips a split, samples and bytes; and how unlike they are.

    [bold]Examples[/bold]

        privfedtalk clients mine

        privfedtalk prepare --set preparation.partition.by=dirichlet --set preparation.partition.alpha=0.3
    """
    from preparation.clients.report import load_client_report
    from preparation.clients.roles import load_clients

    folder = RunFolder(choose(None, run).configuration.root)
    found = load_clients(folder.clients_table)
    if as_json:
        print_json(_document(folder, found))
        return
    console.print(styled(("clients of ", "default"), (str(folder.root), "bold")))
    for role in ("client", "unseen", "volunteer", "public"):
        own = sorted(name for name, entry in found.items() if entry.role == role)
        if own:
            _print_role(folder, role, {name: found[name] for name in own}, own if every else own[:LISTED])
    if folder.client_report.exists():
        _print_summary(load_client_report(folder.client_report))
        console.print(f"charts and figures of each client: {folder.client_report.parent}")
    else:
        console.print(
            "how unlike they are is not measured yet: privfedtalk prepare, with the options of the first time"
        )


def _document(folder: RunFolder, found: Mapping[str, Client]) -> dict[str, Any]:
    """The document of --json: every client, and how unlike they are, if that was measured."""
    from preparation.clients.report import load_client_report
    from preparation.clients.roles import SPLITS

    rows = []
    for name, entry in sorted(found.items()):
        index, clips = _index(folder, name), entry.clips()
        rows.append(
            {
                "name": name,
                "role": entry.role,
                "people": len({entry.person_of(clip) for clip in clips}),
                **{split: len(entry.splits[split]) for split in SPLITS},
                "one_video": entry.one_video,
                "samples": None if index is None else index.samples,
                "quarantined": None if index is None else len(clips) - _used(index),
                "bytes": None if index is None else sum(shard.bytes for shard in index.shards),
            }
        )
    measured = vars(load_client_report(folder.client_report)) if folder.client_report.exists() else {}
    differences = {name: value for name, value in measured.items() if name != "clients"}
    return {"run": folder.root, "clients": rows, "how_unlike": differences or None}


def _print_role(folder: RunFolder, role: str, found: Mapping[str, Client], shown: Sequence[str]) -> None:
    """Print the people of one role as a table. A note that holds for all that are shown is printed once, below it."""
    rows = {name: _row(found[name], _index(folder, name)) for name in shown}
    alike = [note for note in next(iter(rows.values())).notes if all(note in row.notes for row in rows.values())]
    alike = alike if len(rows) > 1 else []
    columns = {head: [row.counts[head] for row in rows.values()] for head in (PEOPLE, *SHORT.values(), SAMPLES, MB)}
    for head, cells in list(columns.items()):
        if set(cells) == {UNKNOWN} or (head == PEOPLE and set(cells) == {"1"}):
            del columns[head]
    title = f"{role} ({len(found)})"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.pad_edge, table.collapse_padding, table.show_edge = False, True, False
    table.add_column("name", overflow="fold")
    for head in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for number, (name, row) in enumerate(rows.items()):
        notes = [note for note in row.notes if note not in alike]
        cell = styled(name, ("".join(f"\n  {note}" for note in notes), "dim"))
        table.add_row(cell, *(cells[number] for cells in columns.values()))
    console.print(table)
    if alike:
        console.print(f"all of these: {', '.join(alike)}")
    if len(shown) < len(found):
        console.print(f"… {len(found) - len(shown)} more (--all)")


@dataclass(frozen=True)
class _Row:
    """A person's cells by the head of their column, and notes that are printed below the name."""

    counts: dict[str, str]
    notes: list[str]


def _row(entry: Client, index: ShardIndex | None) -> _Row:
    counts = {PEOPLE: str(len({entry.person_of(clip) for clip in entry.clips()}))}
    counts |= {head: str(len(entry.splits[split])) for split, head in SHORT.items()}
    notes = ["one video in several splits"] if entry.one_video else []
    if index is None:
        return _Row(counts | {SAMPLES: UNKNOWN, MB: UNKNOWN}, [*notes, "no shards yet"])
    missing = len(entry.clips()) - _used(index)
    if missing:
        notes.append(f"{missing} clip{'s' * (missing > 1)} in quarantine")
    size = sum(shard.bytes for shard in index.shards) / 1e6
    return _Row(counts | {SAMPLES: str(index.samples), MB: f"{size:.1f}"}, notes)


def _used(index: ShardIndex) -> int:
    """The number of clips that gave samples; a long clip gives several."""
    return sum((index.clips or index.splits).values())


def _index(folder: RunFolder, name: str) -> ShardIndex | None:
    from preparation.shards.store import load_index

    try:
        return load_index(folder.client(name))
    except PrivFedTalkError:
        return None


def _print_summary(report: ClientReport) -> None:
    """Print the summary over clients; each distance is beside what clients of these sizes show by chance."""
    for label, text in report.summary().items():
        console.print(styled(f"{label}: ", (text, "bold")))
