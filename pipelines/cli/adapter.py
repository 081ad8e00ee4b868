"""`privfedtalk adapter`: show an adapter, export it from a run, import it into another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from common.folders import ADAPTER_CONFIG
from common.text.commands import command
from pipelines.terminal import completion
from pipelines.terminal.options import JsonOption, RunArgument, choose
from pipelines.terminal.paths import folder_of_run, full_path, writable_folder
from pipelines.terminal.run_argument import RunCommand
from pipelines.terminal.text import console, print_json

if TYPE_CHECKING:
    from common.folders import RunFolder
    from training.adapters.folders import AdapterFacts

app = typer.Typer(help="Adapters as folders that travel, in PEFT's format.", no_args_is_help=True)
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        help="Which method's adapter.",
        show_default="privfedtalk, or the only one of the run",
        autocompletion=completion.methods,
    ),
]
WhoseOption = Annotated[
    str, typer.Option("--adapter", "-a", metavar="CLIENT|global", help="A client's own adapter, or the shared one.")
]


@app.command(cls=RunCommand)
def inspect(
    run: RunArgument = "demo",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", "-f", help="An adapter's folder outside of any run.", show_default="an adapter of RUN"
        ),
    ] = None,
    method: MethodOption = None,
    adapter: WhoseOption = "global",
    as_json: JsonOption = False,
) -> None:
    """Show rank, layers, parameters, base model and what may be claimed about privacy; no model is loaded.

    [bold]Examples[/bold]

        privfedtalk adapter inspect mine --method fedavg

        privfedtalk adapter inspect --folder shared_adapter --json
    """
    from training.adapters.folders import inspect_adapter

    facts = inspect_adapter(folder) if folder else inspect_adapter(*_adapter_of(run, method, adapter))
    if as_json:
        print_json(facts.to_json())
    else:
        _show(facts)


@app.command(cls=RunCommand)
def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
    run: RunArgument = "demo",
    method: MethodOption = None,
    adapter: WhoseOption = "global",
    as_json: JsonOption = False,
) -> None:
    """Copy an adapter out of a run: PEFT's files, the base model's hash, a model card,
    and of the shared adapter the privacy report.

    The folder holds nothing counted or measured in clients' clips, and no
    client's name. An adapter fitted to one client, imported ones included, knows
    that client's face: it is exported only if the client agreed to be generated.

    [bold]Examples[/bold]

        privfedtalk adapter export mine --out shared_adapter

        privfedtalk adapter export mine --method fedavg --out fedavg_adapter
    """
    from evaluation.results.card import card_figures
    from preparation.settings import CorpusKind
    from training.adapters.folders import export_adapter
    from training.generation.talker import agreed_facts

    target = writable_folder(out)
    (source, folder), configuration = _adapter_of(run, method, adapter), choose(None, run).configuration
    rendered = configuration.corpus.kind is CorpusKind.STUDIO
    agreed_facts(folder, source, adapter, configuration.training.consent.required and not rendered)
    facts = export_adapter(folder, source, target, card_figures)
    if as_json:
        print_json({"folder": out, **facts.to_json()})
        return
    console.print(f"{out}: {facts.parameters:,} parameters, {facts.bytes / 1e6:.2f} MB")
    console.print(f"privacy: {facts.privacy}")


@app.command("import", cls=RunCommand)
def import_(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `adapter export` wrote.")],
    name: Annotated[str, typer.Option("--as", help="What the run is to call it.")],
    as_json: JsonOption = False,
) -> None:
    """Put an adapter into a run, if it was trained on the run's backbone and is
    nothing but a LoRA for it: everything is checked before it is loaded.

    Its privacy guarantee is shown as its maker's claim.

    [bold]Example[/bold]

        privfedtalk adapter import mine shared_adapter --as theirs

        privfedtalk generate mine --adapter theirs --reference face.jpg --speech talk.wav --out talk.mp4
    """
    from common.folders import RunFolder
    from training.adapters.folders import import_adapter, inspect_adapter

    into = RunFolder(choose(None, run).configuration.root)
    target = import_adapter(into, folder, name)
    if as_json:
        print_json({"folder": target, "adapter": name, **inspect_adapter(target, into).to_json()})
    else:
        files = {"reference": "PICTURE", "speech": "SOUND", "out": "CLIP.mp4"}
        console.print(f"{target}: {command('generate', run=run, adapter=name, **files)}")


def _adapter_of(run: str, method: str | None, adapter: str) -> tuple[Path, RunFolder]:
    """The folder of a run's adapter, and the run's own folder."""
    from common.errors import PrivFedTalkError
    from common.folders import RunFolder
    from training.generation.talker import adapter_folder

    named, typed = folder_of_run(run), full_path(run)
    if (typed / ADAPTER_CONFIG).exists() and (typed == named or not named.exists()):
        raise PrivFedTalkError(f"{run} is an adapter's folder, not a run", command("adapter inspect", folder=run))
    folder = RunFolder(choose(None, run).configuration.root)
    return adapter_folder(folder, method, adapter), folder


def _show(facts: AdapterFacts) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    whose = f"fitted to {facts.client}" if facts.client else "shared"
    for row in (
        ("method", f"{facts.method}, {whose}"),
        ("rank, alpha", f"{facts.rank}, {facts.alpha:g}"),
        ("layers", ", ".join(facts.targets)),
        ("parameters", f"{facts.parameters:,} in {facts.tensors} tensors, {facts.bytes / 1e6:.2f} MB"),
        ("SHA-256", facts.sha256),
        ("base model", facts.base_sha256),
        ("privacy", facts.privacy),
    ):
        table.add_row(*row)
    console.print(table)
