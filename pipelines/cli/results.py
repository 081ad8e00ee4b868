"""`privfedtalk evaluate` and `privfedtalk report`: what came of it."""

from __future__ import annotations

from pipelines.cli.shared import FreshOption, ProfileOption, RunOption, SetOption, choose, console


def evaluate(
    run: RunOption = None, profile: ProfileOption = None, settings: SetOption = None, fresh: FreshOption = False
) -> None:
    """Measure every method and reference on held-out clips, then write results.json and the page.

    [bold]Examples[/bold]

        privfedtalk evaluate --run mine

        privfedtalk evaluate --fresh
    """
    from pipelines.cli.summary import show_results
    from pipelines.jobs import EVALUATE, REPORT
    from pipelines.runner import run_jobs

    choice = choose(profile, run, settings)
    run_jobs([EVALUATE, REPORT], choice.profile, choice.overrides, keep=not fresh)
    show_results(choice.configuration.root)


def report(run: RunOption = None, profile: ProfileOption = None, settings: SetOption = None) -> None:
    """Write results.json and the report page again, from what is measured already.

    [bold]Example[/bold]

        privfedtalk report --run mine
    """
    from pipelines.jobs import REPORT
    from pipelines.runner import run_jobs

    choice = choose(profile, run, settings)
    run_jobs([REPORT], choice.profile, choice.overrides, keep=False)
    console.print(f"Open {choice.configuration.root / 'report' / 'index.html'}")
