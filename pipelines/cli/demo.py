"""`privfedtalk demo`: the whole pipeline, on rendered faces or on a folder of clips."""

from __future__ import annotations

from pipelines.terminal.corpus_options import (
    ConsentOption,
    CorpusOption,
    PublicOption,
    RootOption,
    VaeOption,
    check_clips,
    check_consent,
    corpus_overrides,
)
from pipelines.terminal.options import (
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
from pipelines.terminal.text import console, styled


def demo(
    run: ProfilesRunArgument = None,
    corpus: CorpusOption = None,
    root: RootOption = None,
    vae: VaeOption = None,
    public: PublicOption = None,
    consent: ConsentOption = None,
    profile: ProfileOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Render a corpus or take a folder of clips, prepare it, train every method, evaluate, and write the report.

    Stages that are done and unchanged are kept, so an interrupted demo goes on where it stopped.

    [bold]Examples[/bold]

        privfedtalk demo

        privfedtalk demo try --profile small --seed 3

        privfedtalk demo ours --profile faces --root our_clips --consent signed.csv

        privfedtalk demo me --profile faces --root my_recording --public faces --set training.methods=[local]

        privfedtalk demo --set training.federation.rounds=12 --fresh
    """
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import WHOLE_RUN
    from pipelines.terminal.summary import print_results

    choice = choose(
        profile,
        run,
        settings,
        **corpus_overrides(corpus, root, vae, public),
        training__consent__required=True if consent else None,
        seed=seed,
        workers=workers,
    )
    check_clips(choice.configuration, consent)
    if consent is None:
        check_consent(choice.configuration)
    folder, seed = choice.configuration.root, choice.configuration.seed
    if not as_json:
        console.print(styled(("PrivFedTalk", "bold"), f": profile {choice.profile}, seed {seed}, into {folder}"))
    try:
        carry_out(WHOLE_RUN, choice, not fresh, as_json, consent)
    except FailedCheckError as error:
        print_results(folder, as_json, error)
        raise
    print_results(folder, as_json)
    if not as_json:
        console.print(styled("Every stage with its tables and pictures: ", (".venv/bin/dagster dev", "bold")))
