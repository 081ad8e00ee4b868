"""`privfedtalk studio` and `privfedtalk prepare`: render clips, and prepare clips for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal.options import (
    LARGEST_SEED,
    NULL,
    FreshOption,
    JsonOption,
    ProfileOption,
    ProfilesRunArgument,
    SeedOption,
    SetOption,
    WorkersOption,
    carry_out,
    choose,
)
from pipelines.terminal.paths import folder_of_run, full_path, readable_file, readable_folder, writable_folder
from pipelines.terminal.text import console, print_json
from preparation.settings import CorpusKind


def studio(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new corpus, in LRS3 layout.")],
    speakers: Annotated[
        int,
        typer.Option(min=1, max=10**5, help="People: three quarters public, the rest clients, unseen and volunteers."),
    ] = 60,
    clips: Annotated[int, typer.Option(min=1, max=10**4, help="Clips a person.")] = 4,
    seconds: Annotated[float, typer.Option(min=0.8, max=60, help="Length of a clip.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED)] = 0,
    workers: WorkersOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render talking heads: any number of people, the same bytes for the same seed.

    [bold]Examples[/bold]

        privfedtalk studio --speakers 60 --clips 4 --out corpora/sixty

        privfedtalk studio --speakers 200 --clips 10 --seconds 4 --workers 16 --set studio.size=256 --out corpora/big
    """
    from common.workers import available_cores
    from preparation.corpora.studio.corpus import render_corpus

    clients, unseen, volunteers = -(-speakers // 8), speakers // 16, speakers // 16
    chosen = choose(
        "demo",
        settings=settings,
        seed=seed,
        studio__public_speakers=speakers - clients - unseen - volunteers,
        studio__clients=clients,
        studio__unseen=unseen,
        studio__public_clips=clips,
        studio__client_clips=clips,
        studio__unseen_clips=clips,
        studio__volunteers=volunteers,
        studio__volunteer_clips=clips,
        studio__seconds=seconds,
    ).configuration
    render_corpus(writable_folder(out), chosen.studio, workers or available_cores())
    if as_json:
        print_json({"folder": out, "people": speakers, "clips": speakers * clips})
    else:
        console.print(f"{speakers} people, {speakers * clips} clips in {out}")


def prepare(
    run: ProfilesRunArgument = None,
    corpus: Annotated[CorpusKind, typer.Option(help="How the folder is laid out.")] = CorpusKind.STUDIO,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Where the clips lie (with --tables the source videos); the studio renders its own without it.",
            show_default=False,
        ),
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="HDTF's tables: cut its clips from the videos in --root.", show_default=False)
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="KIND=FOLDER",
            help="A part of a mix; guests of later parts join clients of the first.",
            show_default=False,
        ),
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option(
            "--list", metavar="FILE", help="Only LRS3 clips that this file names; repeatable.", show_default=False
        ),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(
            metavar="small|taef2|FOLDER|HUB-ID",
            help="What turns frames into latents. small: trained on the corpus's own public speakers, a few minutes on "
            "two cores. taef2: a small pretrained network, nothing is trained; right for real faces. FOLDER or HUB-ID: "
            "an AutoencoderKL or AutoencoderTiny of diffusers.",
            show_default="the profile's: taef2 for paper, else small",
        ),
    ] = None,
    consent: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Who agreed to what: the columns client, who, scope, expires.",
            show_default="what is recorded already; rendered faces need none",
        ),
    ] = None,
    profile: ProfileOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete what was made of clips that are no longer in the corpus.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn clips into crops, latents, speech features and shards; what cannot be used is listed with its reason.

    [bold]Examples[/bold]

        privfedtalk prepare real --corpus folder --root ../shared/fixtures/clips --vae taef2

        privfedtalk prepare lrs3 --corpus lrs3 --root /path/to/lrs3 --profile paper --workers 32

        privfedtalk prepare ours --corpus folder --root our_clips --consent signed.csv

        privfedtalk prepare hdtf --corpus hdtf --root /path/to/videos --tables /path/to/HDTF_dataset

        privfedtalk prepare mix --corpus mix --part lrs3=/path/to/lrs3 --part hdtf=/path/to/clips
    """
    from common.folders import RunFolder
    from pipelines.configuration.tree import PROJECT
    from pipelines.jobs import PREPARE
    from pipelines.terminal.documents import preparation_document
    from pipelines.terminal.summary import show_consent, show_preparation, show_standings
    from preparation.clients.consent import read_table, record_from_file
    from preparation.speech.networks import check_model
    from training.model.autoencoders.sources import check_source
    from training.model.backbones.sources import check_sources

    if run is not None:
        writable_folder(folder_of_run(run), "RUN")
    choice = choose(
        profile,
        run,
        settings,
        corpus__kind=corpus.value,
        corpus__root=None if root is None else full_path(root),
        corpus__tables=None if tables is None or parts else full_path(tables),
        corpus__parts=[_part(part, tables) for part in parts] if parts else None,
        preparation__corpus__forget_absent=True if forget else None,
        preparation__corpus__lists=[full_path(path) for path in lists] if lists else None,
        # Real people: the noise must come from the operating system, whatever the profile says.
        training__privacy__seeded_noise=None if corpus is CorpusKind.STUDIO else NULL,
        training__vae__source=_absolute(vae),
        seed=seed,
        workers=workers,
    )
    # Before hours of crops, not after them.
    read = choice.configuration.corpus
    for folder in (read.root, read.tables, *(each for part in read.parts for each in (part.root, part.tables))):
        if folder is not None:
            readable_folder(PROJECT / folder, "corpus")
    for path in choice.configuration.preparation.corpus.lists:
        readable_file(PROJECT / path, "list")
    if consent is not None:
        read_table(readable_file(consent, "consent table"))
    check_source(choice.configuration.training.vae.source)
    check_model(choice.configuration.preparation.speech)
    check_sources(choice.configuration.training.backbone)
    carry_out([PREPARE], choice, not fresh, as_json)
    root, required = choice.configuration.root, choice.configuration.training.consent.required
    if consent is not None:
        record_from_file(RunFolder(root), consent)
    if as_json:
        print_json(preparation_document(root, choice.configuration.training))
        return
    show_preparation(root, choice.configuration.preparation.identity.check)
    show_standings(root, choice.configuration.training)
    show_consent(root, required)


def _absolute(vae: str | None) -> str | None:
    """A folder's full path, so that a run continued from elsewhere finds it; any other name as it is."""
    folder = full_path(vae) if vae else None
    return str(folder) if folder and folder.is_dir() else vae


def _part(text: str, tables: Path | None) -> dict[str, str]:
    """One --part as the configuration has it; an HDTF part gets the tables."""
    kind, equals, folder = text.partition("=")
    if not equals or not folder:
        raise typer.BadParameter(f"'{text}' is not KIND=FOLDER, e.g. lrs3=/path/to/lrs3", param_hint="--part")
    part = {"kind": kind, "root": str(full_path(folder))}
    if tables is not None and kind == CorpusKind.HDTF:
        part["tables"] = str(full_path(tables))
    return part
