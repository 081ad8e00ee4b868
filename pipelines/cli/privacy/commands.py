"""`privfedtalk privacy`: how much noise a guarantee takes, and what a run can claim."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from common.text.commands import command
from pipelines.cli.privacy.attacks import audit, membership
from pipelines.cli.privacy.inversion import inversion
from pipelines.terminal.options import JsonOption, RunArgument, choose
from pipelines.terminal.paths import writable_folder
from pipelines.terminal.run_argument import RunCommand
from pipelines.terminal.text import console, print_json

if TYPE_CHECKING:
    from training.privacy.accounting.plan import Cost, PrivacyPlan

app = typer.Typer(help="Differential privacy: plan the noise before, read the report after.", no_args_is_help=True)
app.command(cls=RunCommand)(audit)
app.command(cls=RunCommand)(membership)
app.command(cls=RunCommand)(inversion)


@app.command()
def plan(
    clients: Annotated[int, typer.Option("--clients", "-n", min=2, max=10**12, help="N: all clients there are.")],
    rounds: Annotated[int, typer.Option("--rounds", "-t", min=1, max=10**9, help="T.")],
    per_round: Annotated[
        int, typer.Option("--per-round", "-m", min=1, max=10**12, help="Clients a round, on average or exactly.")
    ],
    target_epsilon: Annotated[
        float, typer.Option("--target-epsilon", "-e", min=0, max=1e6, help="The ε to stay at or below.")
    ],
    delta: Annotated[float | None, typer.Option(min=0, max=1, show_default="min(1e-5, 1/10N)")] = None,
    sampling: Annotated[
        Literal["poisson", "allocation", "fixed", "full"], typer.Option(help="How a round's clients are drawn.")
    ] = "poisson",
    max_participation: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Rounds one client may take part in.", show_default="no cap")
    ] = None,
    dimension: Annotated[
        int, typer.Option("--dimension", "-d", min=1, max=10**15, help="Parameters of the adapter.")
    ] = 200_000,
    mode: Annotated[
        Literal["distributed", "central"], typer.Option(help="Who adds the noise: the clients, or a trusted server.")
    ] = "distributed",
    reader: Annotated[
        Literal["release", "server"],
        typer.Option(help="Whose ε is meant: who sees the released model, or the server that knows the cohorts."),
    ] = "release",
    as_json: JsonOption = False,
) -> None:
    """Say which noise multiplier reaches an ε, and what that noise does to the update.

    [bold]Examples[/bold]

        privfedtalk privacy plan --clients 1000 --rounds 1000 --per-round 10 --target-epsilon 2

        privfedtalk privacy plan -n 100 -t 200 -m 10 -e 8 --sampling fixed --mode central --json
    """
    from training.privacy.accounting.plan import plan as make_plan
    from training.privacy.accounting.schedule import Schedule
    from training.settings.privacy import PrivacySettings, largest_delta

    if delta is not None and not 0 < delta < 1:
        raise typer.BadParameter(f"{delta:g} is not between 0 and 1", param_hint="--delta")
    if delta is not None and delta > largest_delta(clients):
        most = f"{largest_delta(clients):.2g}"
        raise typer.BadParameter(
            f"{delta:g} is no promise among {clients:,} clients; choose at most {most}", param_hint="--delta"
        )
    settings = PrivacySettings(mode=mode, delta=delta)
    schedule = Schedule(clients, per_round, rounds, sampling, max_participation)
    made = make_plan(schedule, target_epsilon, settings, dimension, reader)
    if as_json:
        print_json(made.to_json())
    else:
        _show(made)


@app.command(cls=RunCommand)
def report(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write.", show_default="RUN/report/privacy")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write each method's privacy report as Markdown, JSON and HTML; exit code 2 if a claim does not hold.

    [bold]Examples[/bold]

        privfedtalk privacy report demo

        privfedtalk privacy report data/mine --out /tmp/privacy
    """
    from common.errors import PrivFedTalkError
    from common.folders import RunFolder
    from evaluation.report.privacy_page import read_privacy, write_privacy_reports
    from training.claims.outdated import mark_outdated
    from training.claims.verification import contradictions_of
    from training.privacy.digits import three_digits

    if out is not None:
        out = writable_folder(out)
    configuration = choose(None, run).configuration
    folder = RunFolder(configuration.root)
    methods = [method for method in configuration.training.methods if folder.adapter(method).exists()]
    if not methods:
        raise PrivFedTalkError(f"no method of {folder.root} is trained", command("train", run=run))
    for method in methods:
        mark_outdated(folder, method)
    if found := [f"{method}: {line}" for method in methods for line in contradictions_of(folder, method)]:
        raise PrivFedTalkError(
            "; ".join(found), "train again: this report says more than the run's records and settings bear out"
        )
    pages = write_privacy_reports(folder, methods, out or folder.report / "privacy")
    if as_json:
        paired = zip(methods, pages, strict=True)
        print_json({method: {"page": page, **read_privacy(folder, method)} for method, page in paired})
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    for head in ("verdict", "ε\nreleased", "ε\nserver", "ε another\nclient", "ε all\nreleases", "δ"):
        table.add_column(head, vertical="bottom")
    for method in methods:
        report = read_privacy(folder, method)
        figures = [
            report["epsilon_release"],
            report["epsilon_server"],
            report["epsilon_client"],
            report["together"]["epsilon"],
        ]
        table.add_row(method, report["verdict"], *map(three_digits, [*figures, report["delta"]]))
    console.print(table)
    for page in pages:
        console.print(f"Open {page}", soft_wrap=True)


def _show(made: PrivacyPlan) -> None:
    schedule, cost = made.schedule, made.cost
    console.print(
        f"{schedule.clients:,} clients, {schedule.per_round:,} a round ({schedule.sampling}), "
        f"{schedule.rounds:,} rounds, δ = {made.delta:.2g}, {made.mode} noise on {made.dimension:,} parameters"
    )
    console.print(f"--set training.privacy.noise_multiplier={_rounded_up(made.noise_multiplier)}", style="bold")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "noise multiplier z",
        f"{made.noise_multiplier:.4g}",
        f"the smallest for ε ≤ {made.target_epsilon:g} at δ = {made.delta:.2g}",
    )
    table.add_row("ε of the released model", f"{made.release.value:.4g}", made.release.accountant)
    table.add_row(
        "ε towards the server",
        f"{made.server.value:.4g}",
        f"a client in {schedule.participation_but_for(made.delta / 2):,} rounds, the most"
        + (" but with half of δ's probability" if schedule.draws_participation else ""),
    )
    if made.typical_participation < schedule.participation:
        often = f"a client in {made.typical_participation:,} rounds, as is expected"
        table.add_row("", f"{made.server_typical.value:.4g}", often)
    table.add_row("ε towards another client", f"{made.client.value:.4g}", made.client.accountant)
    table.add_row("noise / clipped update", f"{cost.noise_over_update:.3g}", "norms, in one round's sum")
    table.add_row(
        "signal / noise, a round",
        f"{cost.signal_to_noise_agreeing:.3g}",
        f"if clients agree; {cost.signal_to_noise_unrelated:.3g} if their updates are unrelated",
    )
    table.add_row(
        "signal / noise, all rounds",
        f"{cost.signal_to_noise_all_rounds:.3g}",
        "of what they agree on in every round",
    )
    console.print(table)
    if made.alternatives:
        console.print(_ways_to_draw(made))
    if made.larger:
        console.print(_more_clients(made))
    console.print("Signal is an upper bound: every update clipped, of the mean weight that the settings guess.")


def _ways_to_draw(made: PrivacyPlan) -> Table:
    table = Table(title="the same ε by each way to draw a round's clients, the cheapest first", title_justify="left")
    for head in ("sampling", "z", "signal / noise, all rounds", "theorem"):
        table.add_column(head, justify="left" if head in {"sampling", "theorem"} else "right")
    for one in made.alternatives:
        ratio = f"{one.cost.signal_to_noise_all_rounds:.3g}"
        table.add_row(one.sampling, f"{one.noise_multiplier:.3g}", ratio, one.accountant)
    return table


def _more_clients(made: PrivacyPlan) -> Table:
    table = Table(title="the same ε with more clients (signal / noise of a round, agreeing)", title_justify="left")
    heads = ("clients", "z, same cohort", "signal / noise", "cohort, same rate", "z", "signal / noise")
    for head in heads:
        table.add_column(head, justify="right")
    for more in made.larger:
        table.add_row(
            f"{more.clients:,}", *_pair(more.same_cohort, more.same_cohort_cost), f"{more.per_round:,}",
            *_pair(more.same_rate, more.same_rate_cost),
        )  # fmt: skip
    return table


def _pair(z: float, cost: Cost) -> tuple[str, str]:
    return f"{z:.3g}", f"{cost.signal_to_noise_agreeing:.3g}"


def _rounded_up(value: float) -> str:
    """Four digits, rounded up: a little more noise never breaks the promise."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(value / unit) * unit:.4g}"
