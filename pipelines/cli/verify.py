"""`privfedtalk verify`: is a clip synthetic, and by which model?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.cli.shared import JsonOption, console, print_json

if TYPE_CHECKING:
    from training.marks.verify import Verdict

FOUND, NONE = 0, 1


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A clip.")],
    key: Annotated[
        str | None, typer.Option("--key", help="Of the watermark.", show_default="the public one", metavar="TEXT")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the marks that `privfedtalk generate` leaves: the watermark and the C2PA manifest.

    Exit codes: 0 a mark is found, 1 none, 2 the file cannot be read. No mark is no
    proof that a clip is real: others leave none, and a strong recoding removes both.

    [bold]Examples[/bold]

        privfedtalk verify talk.mp4

        privfedtalk verify talk.mp4 --json
    """
    from training.marks.settings import KEY
    from training.marks.verify import verify as read

    found = read(file, key or KEY)
    if as_json:
        print_json(found.to_json())
    else:
        _show(file, found)
    raise typer.Exit(FOUND if found.marked else NONE)


def _show(file: Path, found: Verdict) -> None:
    said = "[bold]synthetic[/bold], by its marks" if found.marked else "[bold]no mark[/bold] that says it is synthetic"
    console.print(f"{file.name}: {said}")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in (*_watermark(found), *_manifest(found)):
        table.add_row(*row)
    console.print(table)
    if found.agree is False:
        console.print("[bold red]The watermark tells of another model than the manifest does.[/bold red]")


def _watermark(found: Verdict) -> list[tuple[str, str]]:
    mark = found.watermark
    if not mark.detected:
        return [("watermark", f"none (score {mark.score:.1f} in {mark.frames} frames)")]
    chance = f"at most {mark.false_positive_rate:.0e} of unmarked clips score as high"
    told = "whose model is no longer legible"
    if mark.payload is not None:
        told = f"model {mark.payload[:3].hex()}…, adapter {mark.payload[3:].hex()}…"
    return [("watermark", f"there (score {mark.score:.1f}: {chance}), {told}")]


def _manifest(found: Verdict) -> list[tuple[str, str]]:
    manifest = found.manifest
    if manifest is None:
        return [("C2PA manifest", "none")]
    holds = "holds" if manifest.valid else f"[red]does not hold[/red] ({', '.join(manifest.failures)})"
    vouched = "" if manifest.trusted else ", for whom no known authority vouches"
    rows = [("C2PA manifest", f"{holds}; signed by “{manifest.signer}”{vouched}")]
    if manifest.maker is not None:
        maker = manifest.maker
        rows.append(("", f"model {maker.model_sha256[:12]}…, adapter {maker.adapter_sha256[:12]}…"))
        rows.append(("", f"{maker.adapter} of {maker.method}"))
    return rows
