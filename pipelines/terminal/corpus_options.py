"""The options that choose clips, which `prepare` and `demo` share, and the checks of them before any work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import PrivFedTalkError
from pipelines.terminal import completion
from pipelines.terminal.options import NULL
from pipelines.terminal.paths import folder_of_run, full_path, readable_file, readable_folder
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
PublicOption = Annotated[
    str | None,
    typer.Option(
        "--public",
        metavar="RUN",
        help="A trained run whose autoencoder, rulers and backbone are used as they are: for clips of few people, such "
        "as your own recording, all of whom are then clients.",
        autocompletion=completion.runs,
        show_default="the corpus's own public people teach them",
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


def corpus_overrides(kind: CorpusKind | None, root: Path | None, vae: str | None, public: str | None) -> dict[str, Any]:
    """What the options mean, for `pipelines.terminal.options.choose`; None is not given."""
    people = kind not in (None, CorpusKind.STUDIO)
    return {
        "corpus__kind": None if kind is None else kind.value,
        "corpus__root": None if root is None else full_path(root),
        # Real people: the noise must come from the operating system, whatever the profile says.
        "training__privacy__seeded_noise": NULL if people else None,
        "training__vae__source": _absolute(vae),
        **({} if public is None else _borrowing(folder_of_run(public))),
    }


def _borrowing(run: Path) -> dict[str, Any]:
    """Overrides under which a run can use the public networks of another: what these networks were made for."""
    from pipelines.configuration.tree import configure, remembered

    if not remembered(run).exists():
        raise PrivFedTalkError(f"--public {run} is no prepared run", "name one in data/, or its folder")
    lender = configure(str(remembered(run)), {})
    return {
        "training__public_run": run,
        "preparation__clients__public_speaker_fraction": 0.0,
        "preparation__crops": lender.preparation.crops.model_dump(mode="json"),
        "preparation__speech": lender.preparation.speech.model_dump(mode="json"),
        "training__vae": lender.training.vae.model_dump(mode="json"),
        "training__backbone": lender.training.backbone.model_dump(mode="json"),
    }


def check_clips(configuration: Configuration, consent: Path | None) -> None:
    """Refuse clips, lists, consent tables and networks that cannot be read: before hours of crops, not after them."""
    from pipelines.configuration.tree import PROJECT
    from preparation.clients.consent import read_table
    from preparation.speech.networks import check_model
    from training.learning.lending import check_lender
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
    check_lender(configuration.training)


def check_consent(configuration: Configuration) -> None:
    """Refuse to prepare clips of people none of whom could then be trained on."""
    from pipelines.plan import consent_lacks

    for lack in consent_lacks(configuration):
        if lack.fatal:
            raise PrivFedTalkError(f"missing: {lack.what}", lack.remedy)


def _absolute(vae: str | None) -> str | None:
    """A folder's full path, so that a run continued from elsewhere finds it; any other name as it is."""
    folder = full_path(vae) if vae else None
    return str(folder) if folder and folder.is_dir() else vae
