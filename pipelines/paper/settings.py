"""The paper's runs as `paper` in params.yaml describes them: a configuration for the people, each seed, each method.

Everything that DVC is to notice stands in params.yaml; it holds differences to a profile, as a profile does to the
defaults in code.
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
NOISY = "privfedtalk"
"""The method whose privacy is priced."""


class SweepSettings(Settings):
    """What single federations of the first seed try; each for every one of `methods`."""

    methods: tuple[MethodName, ...] = Field(("privfedtalk", "fedavg"), min_length=1)
    """What is compared in each sweep but that of the noise."""
    clients_per_round: tuple[int, ...] = Field((4, 8), description="participation; everybody is in the main tables")
    alphas: tuple[float, ...] = Field(
        (0.1, 1.0, 100.0), description="of clips dealt anew by Dirichlet: small is skewed"
    )
    noise_multipliers: tuple[float, ...] = Field((0.0, 0.1, 0.5), description="z, of the full method")
    clip_norms: tuple[float, ...] = Field((0.5, 1.5), description="C, each with every z")


class PaperSettings(Settings):
    """`paper` in params.yaml. `run` is what all runs share, in the shape of a profile; `own` is each method's, in the
    shape of `training`."""

    data: Path = Field(Path("data/rendered"), description="folder of the runs, and of the tables and figures")
    profile: str = Field("demo", description="what `run` and `own` are differences to")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of backbone, federation, noise, evaluation")
    methods: tuple[MethodName, ...] = Field(min_length=1, description="trained and measured with every seed")
    own: dict[MethodName, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each method alone, in the shape of `training`."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Settings that all runs share, in the shape of a profile."""
    sweeps: SweepSettings = SweepSettings()

    @model_validator(mode="after")
    def _whose_is_trained(self) -> PaperSettings:
        check_names((*self.methods, *self.own, *self.sweeps.methods))
        stray = sorted(set(self.own) - set(self.methods))
        if stray:
            raise ValueError(f"paper.own has settings of {', '.join(stray)}, which paper.methods does not name")
        return self

    @property
    def folder(self) -> PaperFolder:
        return PaperFolder(PROJECT / self.data)


SHAPE = {name: field.annotation for name, field in PaperSettings.model_fields.items()} | {
    "own": dict[str, TrainingSettings],
    "run": Configuration,
}
"""What the values of `paper` become."""


def read_paper(path: Path = PARAMS) -> PaperSettings:
    paper = build(PaperSettings, read_yaml(path, {"paper": SHAPE}).get("paper") or {}, source=f"paper in {path.name}")
    for shared in (paper.run, *({"training": own} for own in paper.own.values())):
        check_open(shared, f"paper in {path.name}")
    return paper


def people_overrides(paper: PaperSettings) -> dict[str, Any]:
    """What the run of the people differs in from the profile; its seed is the first, whatever seeds there are."""
    return _overrides(paper, PEOPLE, 0, {})


def seed_overrides(paper: PaperSettings, seed: int, method: str | None = None) -> dict[str, Any]:
    """The same of a seed's run, with the own settings of the method that is to be trained or measured.

    Noise that may be repeated is another for every seed, or seeds would share what they are to differ in.
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
    if name != PEOPLE:  # whose clips they are, how they were dealt and which are measured is the people's
        values = merge(values, {"studio": {"seed": 0}, "preparation": {"clients": {"seed": 0}}})
    return flatten(values)
