"""`privfedtalk privacy audit` and `membership`: attacks that test what a run claims."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from common.text.commands import command
from pipelines.terminal import completion
from pipelines.terminal.options import LARGEST_SEED, JsonOption, OptionalRunArgument, RunArgument, choose
from pipelines.terminal.text import aside, console, print_json, styled

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.status import Status

    from common.folders import RunFolder
    from evaluation.attacks.canaries import Claim
    from evaluation.report.attack_cards import AttackCard
    from pipelines.configuration.tree import Configuration
    from training.privacy.accounting.schedule import Sampling
    from training.settings import TrainingSettings
    from training.settings.privacy import Mode

MOST_CANARY_NUMBERS = 2**31
"""Numbers in all canaries together, 8 GiB."""

MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        help="A trained method; again for more.",
        show_default="all that are trained",
        autocompletion=completion.methods,
    ),
]


def audit(
    run: OptionalRunArgument = None,
    method: MethodsOption = None,
    noise_multiplier: Annotated[
        float | None, typer.Option("--noise-multiplier", "-z", min=0, max=1e6, help="Without RUN: the claim to test.")
    ] = None,
    clients: Annotated[int, typer.Option("--clients", "-n", min=1, max=10**12, help="Without RUN: N.")] = 1000,
    per_round: Annotated[
        int, typer.Option("--per-round", min=1, max=10**12, help="Without RUN: clients a round.")
    ] = 100,
    rounds: Annotated[int, typer.Option("--rounds", "-t", min=1, max=10**6, help="Without RUN: T.")] = 200,
    sampling: Annotated[
        Literal["poisson", "allocation", "fixed", "full"], typer.Option(help="Without RUN.")
    ] = "poisson",
    mode: Annotated[Literal["distributed", "central"], typer.Option(help="Without RUN.")] = "central",
    canaries: Annotated[
        int | None, typer.Option(min=20, max=10**5, help="M.", show_default="1000; fewer under secure aggregation")
    ] = None,
    dimension: Annotated[int, typer.Option("--dimension", "-d", min=100, max=10**7, help="Parameters.")] = 20_000,
    noise_factor: Annotated[
        float,
        typer.Option(min=0, max=1e6, help="Noise really added, over the claimed: 0.316 plants a fault to be found."),
    ] = 1.0,
    seeded_cohorts: Annotated[
        bool, typer.Option("--seeded-cohorts", help="Draw cohorts from the public seed: plants a fault to be found.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the canaries and their coins.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Attack the rounds with canaries and compare what leaks with the claimed ε; exit code 1 if that is refuted.

    Canaries stand for clients in the very code that clips, masks, adds noise
    and sums; nobody is trained. With a RUN, the settings that its report names
    are audited; the result is kept in RUN/attacks, and the page of
    `privfedtalk privacy report` shows it. A planted fault is not kept.

    [bold]Examples[/bold]

        privfedtalk privacy audit demo

        privfedtalk privacy audit -z 1 --clients 1000 --per-round 100 --rounds 200

        privfedtalk privacy audit -z 1 --noise-factor 0.316 --json
    """
    from common.errors import PrivFedTalkError
    from evaluation.attacks.canaries import AuditSettings, audit_run
    from evaluation.attacks.canaries import audit as run_audit
    from evaluation.report.attack_cards import audit_card

    many = canaries or 1000
    if many * dimension > MOST_CANARY_NUMBERS:
        raise typer.BadParameter(
            f"{many:,} canaries of {dimension:,} parameters are too many numbers; {MOST_CANARY_NUMBERS:,} are the most",
            param_hint="--dimension",
        )
    settings = AuditSettings(
        canaries=canaries, dimension=dimension, noise_factor=noise_factor, seeded_cohorts=seeded_cohorts, seed=seed
    )
    if (run is None) == (noise_multiplier is None):
        raise PrivFedTalkError(
            "an audit needs a RUN or the claim to test, and not both", "name a run, or give --noise-multiplier"
        )
    with aside.status("auditing") as status:
        if run is not None:
            folder, methods = trained_methods(run, method)
            found = {name: audit_run(folder, name, settings, _round_progress(status, name)) for name in methods}
        else:
            claim = _claim(noise_multiplier or 0.0, clients, per_round, rounds, sampling, mode)
            found = {"": run_audit(claim, settings, _round_progress(status, ""))}
    if as_json:
        documents = {name: report.to_json() for name, report in found.items()}
        print_json(documents if run else documents[""])
    else:
        for name, report in found.items():
            _show(name, audit_card(report.to_json()), "red" if report.flagged else "green")
    if any(report.flagged for report in found.values()):
        raise typer.Exit(1)


def membership(
    run: RunArgument,
    method: MethodsOption = None,
    shadows: Annotated[
        int,
        typer.Option(
            min=0, max=1024, help="Federations for the likelihood ratio, 4, 8, ...; each trains on half of all people."
        ),
    ] = 0,
    clips: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Clips of each person.", show_default="as many as everybody has"),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, max=10**4, help="Draws of noise and timestep for each window of a clip.")
    ] = 8,
    as_json: JsonOption = False,
) -> None:
    """Try to tell the clients of a released adapter from people of the same population who never trained.

    Members are the clients whose updates are in the adapter, by their training clips;
    the others are its unseen people and clients who sat out. People who may not be
    trained on are left out. AUC 0.5 is a guess; intervals are over people. The result is kept in
    RUN/attacks, and the page of `privfedtalk privacy report` shows it.

    [bold]Examples[/bold]

        privfedtalk privacy membership demo

        privfedtalk privacy membership demo --method fedavg --shadows 8

        privfedtalk privacy membership data/mine --json
    """
    from evaluation.attacks.membership import MembershipSettings, attack_membership
    from evaluation.report.attack_cards import membership_card
    from training.federation.methods import named

    if shadows % 4:
        raise typer.BadParameter(f"{shadows} is not a multiple of 4", param_hint="--shadows")
    configuration = choose(None, run).configuration
    folder, methods = trained_methods(run, method)
    if not method:
        methods = [name for name in methods if named(name).federates]
    settings = MembershipSettings(shadows=shadows, clips=clips, draws=draws)
    found = {}
    with aside.status("attacking") as status:
        for name in methods:
            _show_progress(status, f"attacking {name}")
            found[name] = attack_membership(
                folder,
                name,
                training_settings(configuration),
                configuration.seed,
                settings,
                _shadow_progress(status, name),
            )
    if as_json:
        documents = {name: report.to_json() for name, report in found.items()}
        print_json(documents)
        return
    for name, report in found.items():
        _show(name, membership_card(report.to_json()), "yellow" if report.found else "green")


def _shadow_progress(status: Status, method: str) -> Callable[[int, int], None]:
    began = time.monotonic()

    def show(number: int, of: int) -> None:
        _show_progress(status, f"attacking {method}: {number} of {of} shadow runs ({time.monotonic() - began:.0f} s)")

    return show


def _show_progress(status: Status, what: str) -> None:
    """Show progress: in a terminal as a line that changes, in a log as one more line."""
    status.update(styled(what))
    if not aside.is_terminal:
        aside.print(what)


def training_settings(configuration: Configuration) -> TrainingSettings:
    """The run's training settings, with the consent setting that decides whose clips an attack may read. For rendered
    people a missing record is no refusal, also in runs that are older than their records."""
    from preparation.settings import ConsentSettings, CorpusKind

    training = configuration.training
    if configuration.corpus.kind is CorpusKind.STUDIO:
        return training.model_copy(update={"consent": ConsentSettings(required=False)})
    return training


def trained_methods(run: str, chosen: list[str] | None) -> tuple[RunFolder, list[str]]:
    """The run's folder and those of its methods that are trained and wanted."""
    from common.errors import PrivFedTalkError
    from common.folders import RunFolder
    from training.federation.methods import METHODS

    folder = RunFolder(choose(None, run).configuration.root)
    trained = [name for name in METHODS if (folder.privacy(name)).exists()]
    unknown = sorted(set(chosen or ()) - set(trained))
    if unknown or not trained:
        missing = f"{', '.join(unknown)} of {folder.root}" if unknown else f"any method of {folder.root}"
        raise PrivFedTalkError(
            f"there is no privacy report of {missing}",
            command("train", run=run, **({"method": unknown[0]} if unknown else {})),
        )
    return folder, [name for name in trained if chosen is None or name in chosen]


def _round_progress(status: Status, method: str) -> Callable[[int, int], None]:
    return lambda number, rounds: status.update(styled(f"auditing {method} round {number} of {rounds}"))


def _claim(z: float, clients: int, per_round: int, rounds: int, sampling: Sampling, mode: Mode) -> Claim:
    from evaluation.attacks.canaries import Claim
    from training.privacy.accounting.schedule import Schedule
    from training.settings.privacy import PrivacySettings

    privacy = PrivacySettings(mode=mode, noise_multiplier=z, secure_aggregation=mode == "distributed")
    rate = Schedule(clients, per_round, rounds, sampling).rate
    return Claim(privacy, rate, sampling, rounds, privacy.target_delta(clients))


def _show(name: str, card: AttackCard, colour: str) -> None:
    console.print(styled((name or card.title, "bold"), "  ", (card.sentence, colour)))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in card.rows:
        table.add_row(*row)
    console.print(table)
