"""`privfedtalk train`: backbone and federated adapters."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.terminal import completion
from pipelines.terminal.options import (
    FreshOption,
    JsonOption,
    ProfileOption,
    ProfilesRunArgument,
    SeedOption,
    SetOption,
    carry_out,
    choose,
)
from pipelines.terminal.text import console, print_json

MethodOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        help="A method to train; give it again for more.",
        show_default="training.methods",
        autocompletion=completion.methods,
    ),
]


def train(
    run: ProfilesRunArgument = None,
    method: MethodOption = None,
    profile: ProfileOption = None,
    seed: SeedOption = None,
    settings: SetOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain the backbone on public speakers, then train one federated adapter a method.

    Works on what `privfedtalk prepare` left in the run's folder.

    [bold]Examples[/bold]

        privfedtalk train mine

        privfedtalk train mine --method scaffold --method local

        privfedtalk train --set training.federation.rounds=30 --set training.privacy.clip_norm=0.5
    """
    from pipelines.jobs import TRAIN
    from pipelines.terminal.documents import training_document
    from training.model.backbones.sources import check_sources

    choice = choose(profile, run, settings, seed=seed, training__methods=method or None)
    check_sources(choice.configuration.training.backbone)
    carry_out([TRAIN], choice, not fresh, as_json)
    if as_json:
        print_json(training_document(choice.configuration.root, choice.configuration.training.methods))
    else:
        console.print(f"Models and adapters are in {choice.configuration.root}")
