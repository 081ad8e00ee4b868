"""The stages of `dvc.yaml`: what params.yaml asks for, made through Dagster, so that `dagster dev` shows all runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import wraps

from pipelines.cli.errors import INTERRUPTED, MENDABLE
from pipelines.configuration import load, remember
from pipelines.jobs import EVALUATE, PREPARE, TRAIN
from pipelines.paper import PaperSettings, configuration_of, people_overrides, read_paper, seed_overrides
from pipelines.runner import make_assets
from preparation.errors import PrivFedTalkError

Stage = Callable[[PaperSettings, argparse.Namespace], None]
PREPARED = ("manifest", "clients", "crops", "dealing", "client_report", "vae", "shards")


def corpus(paper: PaperSettings, asked: argparse.Namespace) -> None:
    make_assets(PREPARE, ["corpus"], paper.profile, people_overrides(paper))


def people(paper: PaperSettings, asked: argparse.Namespace) -> None:
    make_assets(PREPARE, PREPARED, paper.profile, people_overrides(paper))
    make_assets(TRAIN, ["rulers"], paper.profile, people_overrides(paper))
    remember(load(paper.profile, people_overrides(paper)))


def backbone(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from evaluation.paper.folders import open_seed

    open_seed(paper.folder, asked.seed)
    make_assets(TRAIN, ["backbone"], paper.profile, seed_overrides(paper, asked.seed))
    remember(configuration_of(paper, asked.seed))


def federation(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from evaluation.paper.folders import open_seed

    open_seed(paper.folder, asked.seed, methods=[asked.method])
    make_assets(TRAIN, ["adapter"], paper.profile, seed_overrides(paper, asked.seed, asked.method), asked.method)


def evaluation(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from evaluation.paper.folders import open_seed

    trained = [asked.method] if asked.method in paper.methods else []
    open_seed(paper.folder, asked.seed, methods=trained, measured=[asked.method])
    own = asked.method if trained else None
    make_assets(EVALUATE, ["evaluation"], paper.profile, seed_overrides(paper, asked.seed, own), asked.method)


def participation(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from pipelines.paper_sweeps import run_participation

    run_participation(paper, asked.method)


def dealt(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from pipelines.paper_sweeps import run_dealt

    run_dealt(paper, asked.value)


def noise(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from pipelines.paper_sweeps import run_noise

    run_noise(paper, asked.value)


def write(paper: PaperSettings, asked: argparse.Namespace) -> None:
    from pipelines.paper_outputs import OUTPUTS

    if asked.value not in OUTPUTS:
        raise PrivFedTalkError(f"there is no output '{asked.value}'", f"choose one of {', '.join(OUTPUTS)}")
    for path in OUTPUTS[asked.value](paper):
        sys.stderr.write(f"{path}\n")


def on_one_thread(stage: Stage) -> Stage:
    """The last digits of losses are the same whether or not other stages run beside this one."""

    @wraps(stage)
    def alone(paper: PaperSettings, asked: argparse.Namespace) -> None:
        import torch

        torch.set_num_threads(1)
        stage(paper, asked)

    return alone


STAGES: Mapping[str, Stage] = {
    stage.__name__: stage
    for stage in (
        *(corpus, people, backbone),
        *map(on_one_thread, (federation, evaluation, participation, dealt, noise)),
        write,
    )
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("pipelines.stage", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("value", nargs="?", default="", help="of a sweep, or the name of an output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="")
    asked = parser.parse_args(arguments)
    try:
        STAGES[asked.stage](read_paper(), asked)
    except PrivFedTalkError as error:
        sys.stderr.write(f"error: {error.reason}\nremedy: {error.remedy}\n")
        return MENDABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
