"""The paper's runs as `paper` and `faces` in params.yaml describe them: a configuration for the people, each seed, each
method; on rendered people, and on real ones.

Everything that DVC shall notice is in params.yaml. It holds only differences from a profile, as a profile holds only
differences from the defaults in code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from common.settings import Settings
from evaluation.experiments.paper.folders import PEOPLE, PaperFolder, seed_name
from pipelines.configuration.reader import build, flatten, merge, read_yaml
from pipelines.configuration.tree import PROJECT, Configuration, check_open, configure
from training.federation.methods import check_names
from training.settings import MethodName, TrainingSettings

PARAMS = PROJECT / "params.yaml"
RENDERED, REAL = "paper", "faces"
"""The sections of params.yaml: rendered people (`dvc.yaml`), and real ones (`pipelines/paper/faces/dvc.yaml`)."""
NOISY = "privfedtalk"
"""The method of the sweep over noise."""


class SweepSettings(Settings):
    """The values of the sweeps: each is one federation of the first seed, for every one of `methods`."""

    methods: tuple[MethodName, ...] = Field(("privfedtalk", "fedavg"), min_length=1)
    """The methods of each sweep but that of the noise."""
    clients_per_round: tuple[int, ...] = Field((4, 8), description="participation; everybody is in the main tables")
    alphas: tuple[float, ...] = Field(
        (0.1, 1.0, 100.0), description="concentrations of the Dirichlet dealing: small is skewed"
    )
    noise_multipliers: tuple[float, ...] = Field((0.0, 0.1, 0.5), description="z, of the full method")
    clip_norms: tuple[float, ...] = Field((0.5, 1.5), description="C, each with every z")


class PaperSettings(Settings):
    """A section of params.yaml, `paper` or `faces`. `run` is what all runs share, in the shape of a profile; `own` is
    each method's, in the shape of `training`."""

    data: Path = Field(Path("data/rendered"), description="folder of the runs, and of the tables and figures")
    profile: str = Field("demo", description="the profile from which `run` and `own` differ")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of backbone, federation, noise, evaluation")
    methods: tuple[MethodName, ...] = Field(min_length=1, description="trained and measured with every seed")
    own: dict[MethodName, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each method alone, in the shape of `training`."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Settings that all runs share, in the shape of a profile."""
    sweeps: SweepSettings = SweepSettings()

    @model_validator(mode="after")
    def _own_methods_are_trained(self) -> PaperSettings:
        check_names((*self.methods, *self.own, *self.sweeps.methods))
        stray = sorted(set(self.own) - set(self.methods))
        if stray:
            raise ValueError(f"own has settings of {', '.join(stray)}, which methods does not name")
        return self

    @property
    def folder(self) -> PaperFolder:
        return PaperFolder(PROJECT / self.data)


SHAPE = {name: field.annotation for name, field in PaperSettings.model_fields.items()} | {
    "own": dict[str, TrainingSettings],
    "run": Configuration,
}
"""The types of the values of a section."""


def read_paper(section: str = RENDERED, path: Path = PARAMS) -> PaperSettings:
    source = f"{section} in {path.name}"
    paper = build(PaperSettings, read_yaml(path, {section: SHAPE}).get(section) or {}, source=source)
    for shared in (paper.run, *({"training": own} for own in paper.own.values())):
        check_open(shared, source)
    return paper


def people_overrides(paper: PaperSettings) -> dict[str, Any]:
    """The overrides of the run that prepares the people; its seed is 0, whatever seeds there are."""
    return _overrides(paper, PEOPLE, 0, {})


def seed_overrides(paper: PaperSettings, seed: int, method: str | None = None) -> dict[str, Any]:
    """The overrides of a seed's run, with the own settings of `method`, if one is to be trained or measured.

    Seeded privacy noise gets the run's seed: otherwise all seeds would share the noise in which they shall differ.
    """
    own: Mapping[str, Any] = {"training": paper.own.get(method, {})} if method else {}
    overrides = _overrides(paper, seed_name(seed), seed, own)
    shared = configure(paper.profile, overrides)
    if shared.training.privacy.seeded_noise is not None:
        overrides["training.privacy.seeded_noise"] = seed
    return overrides


def configuration_of(paper: PaperSettings, seed: int, method: str | None = None) -> Configuration:
    return configure(paper.profile, seed_overrides(paper, seed, method))


def _overrides(paper: PaperSettings, name: str, seed: int, own: Mapping[str, Any]) -> dict[str, Any]:
    values = merge(merge(paper.run, own), {"run": name, "data": str(paper.data), "seed": seed, "gates": False})
    values = merge(values, {"training": {"methods": list(paper.methods)}})
    if name != PEOPLE:  # clips, their dealing and the choice of those measured are the people's
        values = merge(values, {"studio": {"seed": 0}, "preparation": {"clients": {"seed": 0}}})
    return flatten(values)
