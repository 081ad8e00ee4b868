"""`privfedtalk weights`: which pretrained networks are here, and whether they are the ones meant."""

from __future__ import annotations

import typer
from rich.table import Table

from pipelines.cli.shared import console
from preparation.errors import CorruptFileError, MissingWeightError

app = typer.Typer(
    help="Pretrained networks: where they are looked for, and whether they are intact.", no_args_is_help=True
)


@app.command("list")
def list_weights() -> None:
    """Every registered network with its licence, source and place.

    [bold]Example[/bold]

        PRIVFEDTALK_WEIGHTS=/path/to/weights privfedtalk weights list
    """
    from preparation.weights import ENVIRONMENT_VARIABLE, REGISTRY, folders

    table = Table(
        "name", "what", "MB", "licence", "state", title=f"looked for in {_places(folders())}", title_justify="left"
    )
    for name, weight in REGISTRY.items():
        table.add_row(
            name,
            weight.what,
            "" if weight.bytes is None else f"{weight.bytes / 1e6:.1f}",
            weight.licence,
            _state(name)[0],
        )
    console.print(table)
    console.print(f"Another folder: export {ENVIRONMENT_VARIABLE}=FOLDER")


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
