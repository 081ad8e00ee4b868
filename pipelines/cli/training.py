"""`privfedtalk train`: backbone and federated adapters."""

from __future__ import annotations

from pipelines.terminal.options import (
    FreshOption,
    JsonOption,
    MethodsOption,
    ProfileOption,
    ProfilesRunArgument,
    SeedOption,
    SetOption,
    carry_out,
    choose,
)
from pipelines.terminal.text import console, print_json


def train(
    run: ProfilesRunArgument = None,
    method: MethodsOption = None,
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

    choice = choose(profile, run, settings, seed=seed, training__methods=method or None)
    carry_out([TRAIN], choice, not fresh, as_json)
    if as_json:
        print_json(training_document(choice.configuration.root, choice.configuration.training.methods))
    else:
        console.print(f"Models and adapters are in {choice.configuration.root}")
