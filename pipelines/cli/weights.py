"""`privfedtalk weights`: which pretrained networks are here, whether they are the ones meant, and how to get them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.cli.shared import console
from preparation.errors import CorruptFileError, MissingWeightError

app = typer.Typer(
    help="Pretrained networks: where they are looked for, whether they are intact, and how to get them.",
    no_args_is_help=True,
)


@app.command("list")
def list_weights() -> None:
    """Every registered network with its licence, size, checksum and place.

    [bold]Example[/bold]

        PRIVFEDTALK_WEIGHTS=/path/to/weights privfedtalk weights list
    """
    from preparation.weights import ENVIRONMENT_VARIABLE, REGISTRY, folders

    table = Table(
        "name", "what", "MB", "sha256", "licence", "state",
        title=f"looked for in {_places(folders())}", title_justify="left",
    )  # fmt: skip
    for name, weight in REGISTRY.items():
        table.add_row(
            name,
            weight.what,
            "" if weight.bytes is None else f"{weight.bytes / 1e6:.1f}",
            "unknown" if weight.sha256 is None else weight.sha256[:8],
            weight.licence,
            _state(name)[0],
        )
    console.print(table)
    console.print(f"Another folder: export {ENVIRONMENT_VARIABLE}=FOLDER. Get one: privfedtalk weights fetch NAME")


@app.command()
def check() -> None:
    """Compare every file's SHA-256 with the registered one; exit code 2 when one is damaged.

    [bold]Example[/bold]

        privfedtalk weights check
    """
    from preparation.weights import REGISTRY

    damaged = False
    for name in REGISTRY:
        state, detail = _state(name)
        damaged |= state == "damaged"
        console.print(f"{name}: {state}" + (f"\n  {detail}" if detail else ""), markup=False)
    if damaged:
        raise typer.Exit(2)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names that `weights list` shows.")],
    into: Annotated[
        Path | None, typer.Option("--into", help="The folder to put them in.", show_default="the user's cache")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Accept the first copy of a file whose SHA-256 nobody published.")
    ] = False,
) -> None:
    """Download networks and keep only what has the registered SHA-256.

    [bold]Examples[/bold]

        privfedtalk weights fetch inception syncnet

        privfedtalk weights fetch syncnet_example --trust
    """
    from preparation import weight_downloads
    from preparation.weights import REGISTRY, sha256_of

    for name in names:
        path = weight_downloads.fetch(name, into, trust)
        console.print(f"{name}: {path}", markup=False)
        if REGISTRY[name].sha256 is None:
            console.print(
                f"[bold yellow]UNVERIFIED[/bold yellow] nobody published the SHA-256 of {path.name}: its first copy "
                f"was taken on trust. It is {sha256_of(path)}; from now on every copy must have it."
            )


def _state(name: str) -> tuple[str, str]:
    """present, absent or damaged; and what to do about it."""
    from preparation.weights import find

    try:
        find(name)
    except CorruptFileError as error:
        return "damaged", str(error)
    except MissingWeightError as error:
        return "absent", error.remedy
    return "present", ""


def _places(folders: list) -> str:
    return " and ".join(str(folder) for folder in folders)
