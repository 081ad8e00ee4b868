"""The sweeps of the paper's tables: points of the first seed, each in a scratch run, a few side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.provenance import code_version
from common.workers import available_cores
from evaluation.experiments.driver import make_points, raise_first
from evaluation.experiments.paper.folders import DEALT, NOISE, PARTICIPATION
from evaluation.experiments.paper.worlds import DealtWorld, SeedWorld
from evaluation.experiments.points import Federation, Point, digest_of
from evaluation.experiments.releases import Released
from pipelines.configuration.reader import combine
from pipelines.configuration.tree import Configuration, configure
from pipelines.paper.settings import NOISY, PaperSettings, seed_overrides

NO_CLIPS: Mapping[str, Any] = {"tracked_clips_per_client": 0, "videos_per_client": 0, "instruments": ()}
CODE = ("preparation", "training", "evaluation.experiments.federations", "evaluation.experiments.paper.worlds",
        "evaluation.experiments.releases")  # fmt: skip
"""The modules whose code decides a point's figures."""


@dataclass(frozen=True)
class Variation:
    """A federation that differs from the main tables' in the overrides `chosen`; its point names it by `setting`."""

    method: str
    setting: Mapping[str, float]
    chosen: Mapping[str, Any]
    dealing: Mapping[str, Any] = field(default_factory=dict)
    generated: bool = False

    def __str__(self) -> str:
        return "-".join([self.method, *(f"{value:g}" for value in self.setting.values())])


def run_participation(paper: PaperSettings, method: str) -> None:
    """One method with fewer clients in each round; rounds of everybody are in the main tables."""
    counts = paper.sweeps.clients_per_round
    chosen = {count: {"training.federation.clients_per_round": count} for count in counts}
    _make(
        paper,
        PARTICIPATION,
        method,
        [Variation(method, {"clients_per_round": count}, chosen[count]) for count in counts],
    )


def run_dealt(paper: PaperSettings, value: str) -> None:
    """Every method of the sweep on the same clients, whose clips were dealt with one Dirichlet concentration."""
    setting = {"alpha": float(value)}
    dealing = {"by": "dirichlet", "alpha": setting["alpha"], "unit": "video"}
    _make(paper, DEALT, value, [Variation(method, setting, {}, dealing) for method in paper.sweeps.methods])


def run_noise(paper: PaperSettings, value: str) -> None:
    """The full method with one noise multiplier and every clipping norm; clips are generated too."""
    z, norms = float(value), paper.sweeps.clip_norms
    key = "training.privacy"
    chosen = {norm: {f"{key}.noise_multiplier": z, f"{key}.clip_norm": norm} for norm in norms}
    variations = [Variation(NOISY, {"z": z, "C": norm}, chosen[norm], generated=True) for norm in norms]
    _make(paper, NOISE, value, variations)


def _make(paper: PaperSettings, sweep: str, stage: str, variations: list[Variation]) -> None:
    """Make the missing points of a stage, and delete points that are no longer wanted."""
    folder, scratch = paper.folder.sweep(sweep) / stage, paper.folder.root / "scratch" / f"{sweep}-{stage}"
    (paper.folder.sweep(sweep) / f"{stage}.json").unlink(missing_ok=True)  # older code wrote one file for a stage
    inputs = digest_of(SeedWorld(paper.folder, paper.seeds[0]).digest(), code_version(*CODE))
    points = [_point(paper, sweep, stage, variation, inputs) for variation in variations]
    raise_first(make_points(points, available_cores()))
    wanted = {point.path for point in points}
    for path in folder.iterdir():
        if path not in wanted:
            path.unlink()
    shutil.rmtree(scratch, ignore_errors=True)  # and with it the worlds that were dealt anew


def _point(paper: PaperSettings, sweep: str, stage: str, variation: Variation, inputs: str) -> Point:
    """A variation as a point; `inputs` is a digest of people, networks and code."""
    seed, configured = paper.seeds[0], _configured(paper, variation.method, variation.chosen)
    training, scratch = configured.training, paper.folder.root / "scratch" / f"{sweep}-{stage}"
    # The sweep over noise also generates clips; other sweeps compare losses alone.
    evaluation = configured.evaluation.model_copy(update=NO_CLIPS) if variation.generated else None
    rendered = SeedWorld(paper.folder, seed)
    world: SeedWorld | DealtWorld = rendered
    decides = [inputs, str(seed), training.fingerprint(), evaluation.fingerprint() if evaluation else ""]
    if variation.dealing:
        dealing = {**variation.dealing, "clients": configured.studio.clients}
        chosen = {f"preparation.partition.{key}": value for key, value in dealing.items()}
        preparation = _configured(paper, variation.method, chosen).preparation
        decides.append(preparation.fingerprint())
        world = DealtWorld(rendered, scratch / f"dealt-{digest_of(inputs, preparation.fingerprint())}", preparation)
    decides.append(json.dumps(dict(variation.setting)))
    return Point(
        folder=paper.folder.sweep(sweep) / stage,
        name=f"{variation}-{digest_of(*decides)}",
        label=f"{sweep} {variation}",
        world=world,
        # The rounds are compared on public people, as in the main tables.
        federation=Federation(variation.method, training, configured.seed, validated=True, device=""),
        measurement=Released(evaluation),
        scratch=scratch,
        about={"seed": seed, "sweep": sweep, "method": variation.method, "setting": dict(variation.setting)},
    )


def _configured(paper: PaperSettings, method: str, chosen: Mapping[str, Any]) -> Configuration:
    overrides = seed_overrides(paper, paper.seeds[0], method)
    return configure(paper.profile, combine(overrides, chosen))
