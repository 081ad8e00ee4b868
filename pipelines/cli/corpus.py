"""`privfedtalk studio` and `privfedtalk prepare`: render clips, and prepare clips for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal.corpus_options import (
    ConsentOption,
    CorpusOption,
    PublicOption,
    RootOption,
    VaeOption,
    check_clips,
    corpus_overrides,
)
from pipelines.terminal.options import (
    LARGEST_SEED,
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
from pipelines.terminal.paths import folder_of_run, full_path, writable_folder
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
    corpus: CorpusOption = None,
    root: RootOption = None,
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
    vae: VaeOption = None,
    public: PublicOption = None,
    consent: ConsentOption = None,
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
    from pipelines.jobs import PREPARE
    from pipelines.terminal.documents import preparation_document
    from pipelines.terminal.summary import show_consent, show_preparation, show_standings

    if run is not None:
        writable_folder(folder_of_run(run), "RUN")
    choice = choose(
        profile,
        run,
        settings,
        **corpus_overrides(corpus, root, vae, public),
        corpus__tables=None if tables is None or parts else full_path(tables),
        corpus__parts=[_part(part, tables) for part in parts] if parts else None,
        preparation__corpus__forget_absent=True if forget else None,
        preparation__corpus__lists=[full_path(path) for path in lists] if lists else None,
        seed=seed,
        workers=workers,
    )
    check_clips(choice.configuration, consent)
    carry_out([PREPARE], choice, not fresh, as_json, consent)
    root, required = choice.configuration.root, choice.configuration.training.consent.required
    if as_json:
        print_json(preparation_document(root, choice.configuration.training))
        return
    show_preparation(root, choice.configuration.preparation.identity.check)
    show_standings(root, choice.configuration.training)
    show_consent(root, required)


def _part(text: str, tables: Path | None) -> dict[str, str]:
    """One --part as the configuration has it; an HDTF part gets the tables."""
    kind, equals, folder = text.partition("=")
    if not equals or not folder:
        raise typer.BadParameter(f"'{text}' is not KIND=FOLDER, e.g. lrs3=/path/to/lrs3", param_hint="--part")
    part = {"kind": kind, "root": str(full_path(folder))}
    if tables is not None and kind == CorpusKind.HDTF:
        part["tables"] = str(full_path(tables))
    return part
