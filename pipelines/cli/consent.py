"""`privfedtalk consent`: who agreed to what, and what a revocation reaches."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.cli.shared import DemoOption, JsonOption, choose, console, print_json

if TYPE_CHECKING:
    from preparation.consent import Consent
    from preparation.folders import RunFolder

app = typer.Typer(help="Who agreed to what: a record a client, kept with the client's data.", no_args_is_help=True)
ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="As `privfedtalk clients` lists them.")]


@app.command()
def show(run: DemoOption = "demo", as_json: JsonOption = False) -> None:
    """List every client's record, and whether it allows training and generation today.

    [bold]Example[/bold]

        privfedtalk consent show --run mine
    """
    from preparation.consent import USES, objection_to, read_consent

    folder, required = _run(run)
    rows = {}
    for client in _clients(folder):
        consent = read_consent(folder, client)
        kept = None if consent is None else consent.model_dump(mode="json")
        rows[client] = {
            "record": kept,
            "objections": {use: objection_to(folder, client, use, required) for use in USES},
        }
    if as_json:
        print_json(rows)
        return
    table = Table("client", "who", "expires", *USES, title=f"consent in {folder.root}", title_justify="left")
    for client, row in rows.items():
        record = row["record"] or {}
        allowed = [reason or "yes" for reason in row["objections"].values()]
        table.add_row(client, record.get("who", "–"), record.get("expires") or "–", *allowed)
    console.print(table)


@app.command()
def grant(
    client: ClientArgument,
    who: Annotated[str, typer.Option("--who", help="The person, as they signed.")],
    run: DemoOption = "demo",
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

        privfedtalk consent grant c0003 --who "Ada Lovelace" --run mine

        privfedtalk consent grant c0003 --who "Ada Lovelace" --scope training --expires 2027-12-31
    """
    from preparation.consent import USES, Consent, now, write_consent

    wrong = sorted(set(scope or ()) - set(USES))
    if wrong:
        raise typer.BadParameter(f"{', '.join(wrong)} is not among {', '.join(USES)}", param_hint="--scope")
    folder, _ = _run(run)
    _known(folder, client)
    until = None if expires is None else expires.date()
    covered = tuple(use for use in USES if scope is None or use in scope)
    consent = Consent(who=who, scope=covered, granted=now(), expires=until)
    write_consent(folder, client, consent)
    if as_json:
        print_json({"client": client, "record": consent.model_dump(mode="json")})
        return
    console.print(
        f"{client} ({who}) agrees to {' and '.join(covered)}" + (f" until {until}" if until else ""), markup=False
    )


@app.command()
def revoke(client: ClientArgument, run: DemoOption = "demo", as_json: JsonOption = False) -> None:
    """Note that a client no longer agrees: it takes part in no further federation, and its adapters generate nothing.

    Lists the models that contain the client already: what they learned cannot be
    taken out of them, only trained anew without it or deleted.

    [bold]Example[/bold]

        privfedtalk consent revoke c0003 --run mine
    """
    from preparation.consent import Consent, now, read_consent, write_consent
    from training.containing import models_with

    folder, _ = _run(run)
    _known(folder, client)
    before: Consent = read_consent(folder, client) or Consent(who=f"{client}, not recorded", scope=(), granted=now())
    if before.revoked is None:
        write_consent(folder, client, before.model_copy(update={"revoked": now()}))
    found = models_with(folder, client)
    if as_json:
        print_json({"client": client, "models": [vars(model) for model in found]})
        return
    console.print(f"{client} takes part in nothing from now on.")
    shared = [model for model in found if not model.own]
    for model in found:
        kind = "its own" if model.own else f"shared, in {model.rounds} of its sums"
        console.print(f"  contains {client}: {model.path} ({kind})", markup=False)
    if shared:
        methods = " ".join(f"--method {model.method}" for model in shared)
        console.print(f"Train them anew without it: privfedtalk train --run {run} {methods}", markup=False)
    if len(shared) < len(found):
        console.print(
            "Delete the folders that are its own; copies of any of them that were given away you must recall."
        )
    if not found:
        console.print("No model of this run contains it.")


def _run(run: str) -> tuple[RunFolder, bool]:
    from preparation.folders import RunFolder
    from preparation.settings import CorpusKind

    configuration = choose(None, run).configuration
    rendered = configuration.corpus.kind is CorpusKind.STUDIO
    return RunFolder(configuration.root), configuration.training.consent.required and not rendered


def _clients(folder: RunFolder) -> list[str]:
    from preparation.clients import load_clients, of_role

    return sorted(of_role(load_clients(folder.clients_table), "client"))


def _known(folder: RunFolder, client: str) -> None:
    from preparation.errors import PrivFedTalkError

    clients = _clients(folder)
    if client not in clients:
        raise PrivFedTalkError(
            f"{folder.root} has no client {client}", f"name one of {', '.join(clients[:8])}{' …' * (len(clients) > 8)}"
        )
