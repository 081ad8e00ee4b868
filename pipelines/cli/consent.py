"""`privfedtalk consent`: who agreed to what, and which models and files a revocation concerns."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from common.text.commands import command
from pipelines.terminal.options import JsonOption, RunArgument, choose
from pipelines.terminal.run_argument import RunCommand
from pipelines.terminal.text import console, print_json

if TYPE_CHECKING:
    from common.folders import RunFolder
    from preparation.clients.consent import Consent

app = typer.Typer(help="Who agreed to what: a record a person, kept with the person's data.", no_args_is_help=True)
ClientArgument = Annotated[
    str,
    typer.Argument(metavar="CLIENT", help="As `privfedtalk consent show` lists them: a client, or anybody else."),
]


@app.command(cls=RunCommand)
def show(run: RunArgument = "demo", as_json: JsonOption = False) -> None:
    """List everybody's record, and whether it allows training and generation today.

    Public speakers, volunteers and unseen people need no record, but a record
    that forbids a use counts for them too.

    [bold]Example[/bold]

        privfedtalk consent show mine
    """
    from preparation.clients.consent import USES, objection_to, read_consent

    folder, required = _run(run)
    rows: dict[str, dict[str, Any]] = {}
    for client, role in _people(folder).items():
        consent = read_consent(folder, client)
        kept = None if consent is None else consent.model_dump(mode="json")
        rows[client] = {
            "role": role,
            "record": kept,
            "objections": {use: objection_to(folder, client, use, required) for use in USES},
        }
    if as_json:
        print_json(rows)
        return
    table = Table("name", "role", "who", "expires", *USES, title=f"consent in {folder.root}", title_justify="left")
    for client, row in rows.items():
        record = row["record"] or {}
        allowed = [reason or "yes" for reason in row["objections"].values()]
        table.add_row(client, row["role"], record.get("who", "–"), record.get("expires") or "–", *allowed)
    console.print(table)


@app.command(cls=RunCommand)
def grant(
    run: RunArgument,
    client: ClientArgument,
    who: Annotated[str, typer.Option("--who", help="The person, as they signed.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="training or generation; again for both.", show_default="both"),
    ] = None,
    expires: Annotated[
        datetime.datetime | None,
        typer.Option("--expires", formats=["%Y-%m-%d"], help="The last day it holds.", show_default="never"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record what a client agreed to, in place of what was recorded before.

    [bold]Examples[/bold]

        privfedtalk consent grant mine c0003 --who "Ada Lovelace"

        privfedtalk consent grant mine c0003 --who "Ada Lovelace" --scope training --expires 2027-12-31
    """
    from preparation.clients.consent import USES, Consent, now, write_consent

    wrong = sorted(set(scope or ()) - set(USES))
    if wrong:
        raise typer.BadParameter(f"{', '.join(wrong)} is not among {', '.join(USES)}", param_hint="--scope")
    folder, _ = _run(run)
    client = _known(folder, client)
    until = None if expires is None else expires.date()
    covered = tuple(use for use in USES if scope is None or use in scope)
    consent = Consent(who=who, scope=covered, granted=now(), expires=until)
    write_consent(folder, client, consent)
    if as_json:
        print_json({"client": client, "record": consent.model_dump(mode="json")})
        return
    console.print(f"{client} ({who}) agrees to {' and '.join(covered)}" + (f" until {until}" if until else ""))


@app.command(cls=RunCommand)
def revoke(run: RunArgument, client: ClientArgument, as_json: JsonOption = False) -> None:
    """Note that somebody no longer agrees: their clips are used for nothing, and their adapters generate nothing.

    Lists the models that contain them already: what these learned cannot be taken
    out of them, only trained anew without it or deleted. Lists the files that show
    their face, too; files stay until `privfedtalk prepare --forget` removes them.

    [bold]Example[/bold]

        privfedtalk consent revoke mine c0003
    """
    from preparation.clients.consent import Consent, now, read_consent, write_consent
    from training.adapters.membership import models_with, networks_with, pictures_of

    folder, _ = _run(run)
    client = _known(folder, client)
    before: Consent = read_consent(folder, client) or Consent(who=f"{client}, not recorded", scope=(), granted=now())
    if before.revoked is None:
        write_consent(folder, client, before.model_copy(update={"revoked": now()}))
    found, networks, shown = models_with(folder, client), networks_with(folder, client), pictures_of(folder, client)
    if as_json:
        models = [vars(model) for model in found]
        print_json({"client": client, "models": models, "networks": networks, "pictures": shown})
        return
    console.print(f"{client} takes part in nothing from now on.")
    shared = [model for model in found if not model.own]
    for model in found:
        kind = "its own" if model.own else f"shared, in {model.rounds} of its sums"
        if not model.own and not model.rounds:
            kind = "shared; in which rounds is unknown, because the records of rounds beside it are not its own"
        console.print(f"  contains {client}: {model.path} ({kind})")
    if shared:
        anew = command("train", run=run, method=[model.method for model in shared])
        console.print(f"Train them anew without it: {anew}")
    if len(shared) < len(found):
        console.print(
            "Delete the folders that are its own; copies of any of them that were given away you must recall."
        )
    for network in networks:
        console.print(f"  has learnt from {client}: {network} (trained anew by the next privfedtalk train)")
    if not found and not networks:
        console.print("No model of this run contains it.")
    for path in shown:
        console.print(f"  shows {client}: {path}")
    if shown:
        console.print("Pages that are made from now on leave those out; pictures in Dagster's event log stay there.")
    console.print(
        "Files stay until the clips are out of the corpus and you run: "
        f"{command('prepare', run=folder.root, forget=True)}, with the options of the first time."
    )


def _run(run: str) -> tuple[RunFolder, bool]:
    from common.folders import RunFolder
    from preparation.settings import CorpusKind

    configuration = choose(None, run).configuration
    rendered = configuration.corpus.kind is CorpusKind.STUDIO
    return RunFolder(configuration.root), configuration.training.consent.required and not rendered


def _people(folder: RunFolder) -> dict[str, str]:
    """Everybody's role by name, clients first; a guest of a client is one of its people."""
    from preparation.clients.consent import known_people, people_of
    from preparation.clients.roles import load_clients

    load_clients(folder.clients_table)  # an error where nothing is prepared
    known = known_people(folder)
    roles = {person: entry.role for name, entry in known.items() for person in people_of(name, entry)}
    roles |= {name: entry.role for name, entry in known.items()}
    return dict(sorted(roles.items(), key=lambda pair: (pair[1] != "client", pair[1], pair[0])))


def _known(folder: RunFolder, client: str) -> str:
    """The client's name as the run spells it; an error where it knows nobody of that name."""
    from common.errors import PrivFedTalkError
    from common.text.names import own_spelling

    people = list(_people(folder))
    own = own_spelling(client, people)
    if own is None:
        raise PrivFedTalkError(
            f"{folder.root} has no client {client}, nor anybody else of that name",
            f"name one of {', '.join(people[:8])}{' …' * (len(people) > 8)}",
        )
    return own
