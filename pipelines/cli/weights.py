"""`privfedtalk weights`: which pretrained networks are here, whether they are intact, and how to get them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Column, Table

from common.errors import CorruptFileError, MissingWeightError
from pipelines.terminal import completion
from pipelines.terminal.options import JsonOption
from pipelines.terminal.paths import writable_folder
from pipelines.terminal.text import console, print_json, styled

app = typer.Typer(
    help="Pretrained networks: where they are looked for, whether they are intact, and how to get them.",
    no_args_is_help=True,
)


@app.command("list")
def list_weights(as_json: JsonOption = False) -> None:
    """List every registered network with licence, size, checksum, source and state; --json has them whole, and paths.

    [bold]Example[/bold]

        PRIVFEDTALK_WEIGHTS=/path/to/weights privfedtalk weights list
    """
    from common.weights.registry import ENVIRONMENT_VARIABLE, REGISTRY, folders

    if as_json:
        rows = [{"name": name, **asdict(weight), **_state_of(name)} for name, weight in REGISTRY.items()]
        print_json({"folders": folders(), "weights": rows})
        return
    table = Table(
        Column("name", no_wrap=True), "what", "MB", "sha256", "licence", Column("source", overflow="fold"), "state",
        title=f"looked for in {_joined(folders())}", title_justify="left",
    )  # fmt: skip
    for name, weight in REGISTRY.items():
        table.add_row(
            name,
            weight.what,
            "" if weight.bytes is None else f"{weight.bytes / 1e6:.1f}",
            "unknown" if weight.sha256 is None else weight.sha256[:8],
            weight.licence,
            _origin(weight.source),
            _state_of(name)["state"],
        )
    console.print(table)
    console.print(f"Another folder: export {ENVIRONMENT_VARIABLE}=FOLDER. Get one: privfedtalk weights fetch NAME")


@app.command()
def check(as_json: JsonOption = False) -> None:
    """Compare every file's SHA-256 with the registered one; exit code 2 when one is damaged.

    [bold]Example[/bold]

        privfedtalk weights check
    """
    from common.weights.registry import REGISTRY

    states = {name: _state_of(name) for name in REGISTRY}
    if as_json:
        print_json(states)
    else:
        for name, found in states.items():
            remedy = found["remedy"]
            console.print(f"{name}: {found['state']}" + (f"\n  {remedy}" if remedy else ""))
    if any(found["state"] == "damaged" for found in states.values()):
        raise typer.Exit(2)


@app.command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Names that `weights list` shows.", autocompletion=completion.weights),
    ],
    into: Annotated[
        Path | None, typer.Option("--into", help="The folder to put them in.", show_default="the user's cache")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Accept the first copy of a file whose SHA-256 nobody published.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Download networks and keep only what has the registered SHA-256.

    [bold]Examples[/bold]

        privfedtalk weights fetch inception syncnet

        privfedtalk weights fetch syncnet_example --trust
    """
    from common.weights import downloads as weight_downloads
    from common.weights.registry import REGISTRY, folders, sha256_of

    fetched = []
    into = writable_folder(folders()[-1] if into is None else into, "--into")
    for name in names:
        path = weight_downloads.fetch(name, into, trust)
        published = REGISTRY[name].sha256 is not None
        fetched.append({"name": name, "file": path, "sha256": sha256_of(path), "published": published})
        if as_json:
            continue
        console.print(f"{name}: {path}")
        if not published:
            console.print(
                styled(
                    ("UNVERIFIED", "bold yellow"),
                    f" nobody published the SHA-256 of {path.name}: its first copy was taken on trust. "
                    f"It is {sha256_of(path)}; from now on every copy must have it.",
                )
            )
    if as_json:
        print_json({"fetched": fetched})


def _state_of(name: str) -> dict[str, Any]:
    """Whether a network is present, absent or damaged; its path, or what to do about it."""
    from common.weights.registry import find

    try:
        return {"state": "present", "path": find(name), "remedy": ""}
    except CorruptFileError as error:
        return {"state": "damaged", "path": None, "remedy": str(error)}
    except MissingWeightError as error:
        return {"state": "absent", "path": None, "remedy": error.remedy}


def _origin(source: str) -> str:
    """The repository or host that a network comes from: short enough for a table."""
    return urlsplit(source).hostname or source.partition("@")[0]


def _joined(folders: list) -> str:
    return " and ".join(str(folder) for folder in folders)
