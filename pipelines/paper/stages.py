"""The stages of `dvc.yaml` and `pipelines/paper/faces/dvc.yaml`: what params.yaml asks for, made through Dagster, so
that `dagster dev` shows all runs.

A stage trains or measures one method, or all of them; what it makes of each seed runs side by side.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assets.stage.partitions import REFERENCES
from common.errors import INTERRUPTED, PrivFedTalkError
from common.workers import available_cores
from evaluation.experiments.paper.folders import open_seed
from evaluation.experiments.parallel import run_parallel
from pipelines.configuration.tree import configure, remember
from pipelines.jobs import EVALUATE, PREPARE, REPORT, TRAIN
from pipelines.paper.settings import (
    REAL,
    RENDERED,
    PaperSettings,
    configuration_of,
    people_overrides,
    read_paper,
    seed_overrides,
)
from pipelines.paper.sweeps import run_dealt, run_noise, run_participation
from pipelines.runner import make_assets
from pipelines.terminal.errors import MENDABLE
from pipelines.terminal.interruption import watched

Stage = Callable[[PaperSettings, str], None]
ASSETS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "corpus": {PREPARE: ("corpus",)},
    "people": {
        PREPARE: ("manifest", "clients", "crops", "dealing", "client_report", "vae", "shards"),
        TRAIN: ("rulers",),
    },
    "backbone": {TRAIN: ("backbone",)},
    "federation": {TRAIN: ("adapter",)},
    "evaluation": {EVALUATE: ("evaluation",)},
    "references": {EVALUATE: ("evaluation",)},
    "page": {REPORT: ("privacy", "results", "report")},
}
"""The assets that a stage materialises, by the job that has them; other stages materialise none."""


@dataclass(frozen=True)
class Seeded:
    """A method, or a reference, under one seed."""

    paper: PaperSettings
    seed: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} under seed {self.seed}"


def _seeded(paper: PaperSettings, names: Sequence[str]) -> list[Seeded]:
    return [Seeded(paper, seed, name) for name in names for seed in paper.seeds]


def _materialise(stage: str, paper: PaperSettings, overrides: dict[str, Any], partition: str = "") -> None:
    for job, names in ASSETS[stage].items():
        make_assets(job, names, paper.profile, overrides, partition)


def corpus(paper: PaperSettings, _: str) -> None:
    _materialise("corpus", paper, people_overrides(paper))


def people(paper: PaperSettings, _: str) -> None:
    _materialise("people", paper, people_overrides(paper))
    remember(configure(paper.profile, people_overrides(paper)))


def backbone(paper: PaperSettings, value: str) -> None:
    seed = int(value)
    open_seed(paper.folder, seed)
    _materialise("backbone", paper, seed_overrides(paper, seed))
    remember(configuration_of(paper, seed))


def federation(paper: PaperSettings, method: str) -> None:
    """The federations of a method, or of all methods without one."""
    run_parallel(federate, _seeded(paper, [method] if method else paper.methods), available_cores())


def federate(one: Seeded) -> None:
    open_seed(one.paper.folder, one.seed, methods=[one.name])
    _materialise("federation", one.paper, seed_overrides(one.paper, one.seed, one.name), one.name)


def evaluation(paper: PaperSettings, method: str) -> None:
    """The measurements of a method, or of all methods and references without one."""
    run_parallel(evaluate, _seeded(paper, [method] if method else [*paper.methods, *REFERENCES]), available_cores())


def references(paper: PaperSettings, _: str) -> None:
    run_parallel(evaluate, _seeded(paper, REFERENCES), available_cores())


def evaluate(one: Seeded) -> None:
    trained = [one.name] if one.name in one.paper.methods else []
    open_seed(one.paper.folder, one.seed, methods=trained, measured=[one.name])
    overrides = seed_overrides(one.paper, one.seed, one.name if trained else None)
    _materialise("evaluation", one.paper, overrides | {"workers": 1}, one.name)  # other seeds are measured beside it


def page(paper: PaperSettings, _: str) -> None:
    """The report page of the first seed."""
    seed = paper.seeds[0]
    open_seed(paper.folder, seed, methods=paper.methods, measured=(*paper.methods, *REFERENCES))
    remember(configuration_of(paper, seed))
    _materialise("page", paper, seed_overrides(paper, seed))


def write(paper: PaperSettings, name: str) -> None:
    from pipelines.paper.outputs import OUTPUTS

    if name not in OUTPUTS:
        raise PrivFedTalkError(f"there is no output '{name}'", f"choose one of {', '.join(OUTPUTS)}")
    for path in OUTPUTS[name](paper):
        sys.stderr.write(f"{path}\n")


STAGES: Mapping[str, Stage] = {
    "corpus": corpus,
    "people": people,
    "backbone": backbone,
    "federation": federation,
    "evaluation": evaluation,
    "references": references,
    "participation": run_participation,
    "dealt": run_dealt,
    "noise": run_noise,
    "page": page,
    "write": write,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("pipelines.paper.stage", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("value", nargs="?", default="", help="a seed, a method, a sweep's value or an output's name")
    parser.add_argument("--of", default=RENDERED, choices=(RENDERED, REAL), help="the section of params.yaml")
    asked = parser.parse_args(arguments)
    try:
        with watched():
            STAGES[asked.stage](read_paper(asked.of), asked.value)
    except PrivFedTalkError as error:
        sys.stderr.write(f"error: {error.reason}\nremedy: {error.remedy}\n")
        return MENDABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
