"""`privfedtalk demo`: the whole pipeline on rendered faces."""

from __future__ import annotations

from pipelines.cli.shared import (
    FreshOption,
    ProfileOption,
    RunOption,
    SeedOption,
    SetOption,
    WorkersOption,
    choose,
    console,
)


def demo(
    profile: ProfileOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
) -> None:
    """Render a corpus, prepare it, train every method, evaluate, and write the report.

    Stages that are done and unchanged are kept, so an interrupted demo goes on where it stopped.

    [bold]Examples[/bold]

        privfedtalk demo

        privfedtalk demo --profile small --run try --seed 3

        privfedtalk demo --set training.federation.rounds=12 --fresh
    """
    from pipelines.cli.summary import show_results
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import WHOLE_RUN
    from pipelines.runner import run_jobs

    choice = choose(profile, run, settings, seed=seed, workers=workers)
    root = choice.configuration.root
    console.print(f"[bold]PrivFedTalk[/bold]: profile {choice.profile}, seed {choice.configuration.seed}, into {root}")
    try:
        run_jobs(WHOLE_RUN, choice.profile, choice.overrides, keep=not fresh)
    except FailedCheckError:
        show_results(root)
        raise
    show_results(root)
    console.print("Every stage with its tables and pictures: [bold].venv/bin/dagster dev[/bold]")
