"""The options that choose clips, which `prepare` and `demo` share, and the checks of them before any work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.terminal.options import NULL
from pipelines.terminal.paths import full_path, readable_file, readable_folder
from preparation.settings import CorpusKind

if TYPE_CHECKING:
    from pipelines.configuration.tree import Configuration

CorpusOption = Annotated[
    CorpusKind | None,
    typer.Option(help="How the folder is laid out.", show_default="the profile's or the run's own, else studio"),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        help="Where the clips lie (with --tables the source videos); the studio renders its own without it.",
        show_default=False,
    ),
]
VaeOption = Annotated[
    str | None,
    typer.Option(
        metavar="small|taef2|FOLDER|HUB-ID",
        help="What turns frames into latents. small: trained on the corpus's own public speakers, a few minutes on "
        "two cores. taef2: a small pretrained network, nothing is trained; right for real faces. FOLDER or HUB-ID: "
        "an AutoencoderKL or AutoencoderTiny of diffusers.",
        show_default="the profile's: taef2 for paper, else small",
    ),
]
ConsentOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Who agreed to what: the columns client, who, scope, expires.",
        show_default="what is recorded already; rendered faces need none",
    ),
]


def corpus_overrides(kind: CorpusKind | None, root: Path | None, vae: str | None) -> dict[str, Any]:
    """What the options mean, for `pipelines.terminal.options.choose`; None is not given."""
    people = kind not in (None, CorpusKind.STUDIO)
    return {
        "corpus__kind": None if kind is None else kind.value,
        "corpus__root": None if root is None else full_path(root),
        # Real people: the noise must come from the operating system, whatever the profile says.
        "training__privacy__seeded_noise": NULL if people else None,
        "training__vae__source": _absolute(vae),
    }


def check_clips(configuration: Configuration, consent: Path | None) -> None:
    """Refuse clips, lists, consent tables and networks that cannot be read: before hours of crops, not after them."""
    from pipelines.configuration.tree import PROJECT
    from preparation.clients.consent import read_table
    from preparation.speech.networks import check_model
    from training.model.autoencoders.sources import check_source
    from training.model.backbones.sources import check_sources

    read = configuration.corpus
    for folder in (read.root, read.tables, *(each for part in read.parts for each in (part.root, part.tables))):
        if folder is not None:
            readable_folder(PROJECT / folder, "corpus")
    for path in configuration.preparation.corpus.lists:
        readable_file(PROJECT / path, "list")
    if consent is not None:
        read_table(readable_file(consent, "consent table"))
    check_source(configuration.training.vae.source)
    check_model(configuration.preparation.speech)
    check_sources(configuration.training.backbone)


def _absolute(vae: str | None) -> str | None:
    """A folder's full path, so that a run continued from elsewhere finds it; any other name as it is."""
    folder = full_path(vae) if vae else None
    return str(folder) if folder and folder.is_dir() else vae
