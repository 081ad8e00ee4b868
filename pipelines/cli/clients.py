"""`privfedtalk clients`: who holds what in a prepared run, and how unlike the clients are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from pipelines.terminal.options import JsonOption, ProfilesRunArgument, choose
from pipelines.terminal.text import console, print_json, styled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from preparation.clients.report import ClientReport
    from preparation.clients.roles import Client
    from preparation.shards.store import ShardIndex

LISTED = 40


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
    from preparation.clients.roles import SPLITS, load_clients

    folder = RunFolder(choose(None, run).configuration.root)
    found = load_clients(folder.clients_table)
    if as_json:
        print_json(_document(folder, found))
        return
    heads = ("name", "role", "people", *SPLITS, "samples", "MB", "notes")
    table = Table(*heads, title=f"clients of {folder.root}", title_justify="left")
    for column in table.columns[2:-1]:
        column.justify = "right"
    for role in ("client", "unseen", "volunteer", "public"):
        own = sorted(name for name, entry in found.items() if entry.role == role)
        shown = own if every else own[:LISTED]
        for name in shown:
            table.add_row(name, *_cells(found[name], _index(folder, name)))
        if len(shown) < len(own):
            table.add_row("…", role, *[""] * 6, f"{len(own) - len(shown)} more (--all)")
        table.add_section()
    console.print(table)
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
                "quarantined": None if index is None else len(clips) - index.samples,
                "bytes": None if index is None else sum(shard.bytes for shard in index.shards),
            }
        )
    measured = vars(load_client_report(folder.client_report)) if folder.client_report.exists() else {}
    differences = {name: value for name, value in measured.items() if name != "clients"}
    return {"run": folder.root, "clients": rows, "how_unlike": differences or None}


def _cells(entry: Client, index: ShardIndex | None) -> list[str]:
    from preparation.clients.roles import SPLITS

    people = len({entry.person_of(clip) for clip in entry.clips()})
    counts = [str(len(entry.splits[split])) for split in SPLITS]
    notes = ["one video in several splits"] if entry.one_video else []
    if index is None:
        return [entry.role, str(people), *counts, "–", "–", ", ".join([*notes, "no shards yet"])]
    missing = len(entry.clips()) - index.samples
    if missing:
        notes.append(f"{missing} clip{'s' * (missing > 1)} in quarantine")
    size = sum(shard.bytes for shard in index.shards) / 1e6
    return [entry.role, str(people), *counts, str(index.samples), f"{size:.1f}", ", ".join(notes)]


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
