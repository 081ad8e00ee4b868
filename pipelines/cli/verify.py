"""`privfedtalk verify`: is a clip synthetic, and by which model?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from common.text.foreign import one_line
from pipelines.terminal.options import JsonOption
from pipelines.terminal.paths import readable_file
from pipelines.terminal.text import console, print_json, styled

if TYPE_CHECKING:
    from training.generation.marks.verify import Verdict

EXIT = {"manifest": 0, "none": 1, "hint": 3}
"""Exit codes by the evidence found; 2 is an error, as for every command."""


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A clip.")],
    key: Annotated[
        str | None, typer.Option("--key", help="The watermark's key.", show_default="the public one", metavar="TEXT")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the marks that `privfedtalk generate` leaves: the C2PA manifest and the watermark.

    Exit codes: 0 a signed manifest that holds says that the clip is synthetic, 3 a
    watermark alone does, 1 nothing does, 2 the file cannot be read. A watermark is
    a hint: anybody can copy it to another clip or remove it. No mark is no proof
    that a clip is real: others leave none, and a strong recoding removes both.

    [bold]Examples[/bold]

        privfedtalk verify talk.mp4

        privfedtalk verify talk.mp4 --json
    """
    from training.generation.marks.verify import verify as read
    from training.settings.marks import KEY

    found = read(readable_file(file, "clip"), key or KEY)
    if as_json:
        print_json(found.to_json())
    else:
        _show(file, found)
    raise typer.Exit(EXIT[found.evidence])


VERDICTS = {
    "manifest": ("synthetic", ", by a signed manifest"),
    "hint": ("a hint", " that it is synthetic: a watermark, which anybody could have copied there"),
    "none": ("no mark", " that says it is synthetic"),
}
"""The verdict, and what it rests on."""


def _show(file: Path, found: Verdict) -> None:
    verdict, ground = VERDICTS[found.evidence]
    console.print(styled(f"{one_line(file.name)}: ", (verdict, "bold"), ground))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in (*_manifest(found), *_watermark(found)):
        table.add_row(*row)
    console.print(table)
    if found.agree is False:
        console.print(
            styled(
                ("The watermark names another model than the manifest.", "bold red"),
                " The manifest is signed; a watermark can be copied.",
            )
        )


def _watermark(found: Verdict) -> list[tuple[str, str]]:
    mark = found.watermark
    if not mark.detected:
        return [("watermark", f"none (score {mark.score:.1f} in {mark.frames} frames)")]
    chance = f"at most {mark.false_positive_rate:.0e} of unmarked clips score as high"
    named = "whose model is no longer legible"
    if mark.payload is not None:
        named = f"of model {mark.payload[:3].hex()}…, adapter {mark.payload[3:].hex()}…"
    return [("watermark", f"there (score {mark.score:.1f}: {chance}), {named}; a hint, no proof")]


def _manifest(found: Verdict) -> list[tuple[str, str | Text]]:
    manifest = found.manifest
    if manifest is None:
        return [("C2PA manifest", "none")]
    failures = f" ({', '.join(manifest.failures)})"
    holds = ["holds"] if manifest.valid else [("does not hold", "red"), failures]
    authority = "" if manifest.trusted else ", for whom no known authority vouches"
    rows: list[tuple[str, str | Text]] = [
        ("C2PA manifest", styled(*holds, f"; signed by “{manifest.signer}”{authority}"))
    ]
    if manifest.maker is not None:
        maker = manifest.maker
        rows.append(("", f"model {maker.model_sha256[:12]}…, adapter {maker.adapter_sha256[:12]}…"))
        rows.append(("", f"{maker.adapter} of {maker.method}"))
    return rows
