"""`privfedtalk evaluate` and `privfedtalk report`: what came of it."""

from __future__ import annotations

from pipelines.terminal.options import FreshOption, JsonOption, ProfileOption, RunOption, SetOption, carry_out, choose
from pipelines.terminal.text import console


def evaluate(
    run: RunOption = None,
    profile: ProfileOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure every method and reference on held-out clips, then write results.json and the page.

    [bold]Examples[/bold]

        privfedtalk evaluate --run mine

        privfedtalk evaluate --fresh
    """
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import EVALUATE, REPORT
    from pipelines.terminal.summary import tell_results

    choice = choose(profile, run, settings)
    try:
        carry_out([EVALUATE, REPORT], choice, not fresh, as_json)
    except FailedCheckError as error:
        tell_results(choice.configuration.root, as_json, error)
        raise
    tell_results(choice.configuration.root, as_json)


def report(
    run: RunOption = None,
    profile: ProfileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write results.json and the report page again, from what is measured already.

    [bold]Example[/bold]

        privfedtalk report --run mine
    """
    from common.folders import RunFolder
    from evaluation.report.gather import check_evaluated
    from pipelines.errors import FailedCheckError
    from pipelines.jobs import REPORT
    from pipelines.terminal.summary import tell_results

    choice = choose(profile, run, settings)
    folder = RunFolder(choice.configuration.root)
    if not folder.results.exists():
        check_evaluated(folder)
    try:
        carry_out([REPORT], choice, False, as_json)
    except FailedCheckError as error:
        if as_json:
            tell_results(choice.configuration.root, as_json, error)
        raise
    if as_json:
        tell_results(choice.configuration.root, as_json)
        return
    console.print(f"Open {choice.configuration.root / 'report' / 'index.html'}")
