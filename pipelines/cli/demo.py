"""`privfedtalk demo`: the whole pipeline on rendered faces."""

from __future__ import annotations

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
    profile: ProfileOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Render a corpus, prepare it, train every method, evaluate, and write the report.

    Stages that are done and unchanged are kept, so an interrupted demo goes on where it stopped.

    [bold]Examples[/bold]

        privfedtalk demo

        privfedtalk demo try --profile small --seed 3

        privfedtalk demo --set training.federation.rounds=12 --fresh
    """
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import WHOLE_RUN
    from pipelines.terminal.summary import print_results

    choice = choose(profile, run, settings, seed=seed, workers=workers)
    root, seed = choice.configuration.root, choice.configuration.seed
    if not as_json:
        console.print(styled(("PrivFedTalk", "bold"), f": profile {choice.profile}, seed {seed}, into {root}"))
    try:
        carry_out(WHOLE_RUN, choice, not fresh, as_json)
    except FailedCheckError as error:
        print_results(root, as_json, error)
        raise
    print_results(root, as_json)
    if not as_json:
        console.print(styled("Every stage with its tables and pictures: ", (".venv/bin/dagster dev", "bold")))
