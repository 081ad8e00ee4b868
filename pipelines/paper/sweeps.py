"""The sweeps of the paper's tables: federations of the first seed, each in a scratch run, a few side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assets.stage.run import available_cores
from evaluation.experiments.paper.points import DEALT, NOISE, NOISY, PARTICIPATION, Point, write_points
from pipelines.configuration.reader import combine
from pipelines.configuration.tree import Configuration, configure
from pipelines.paper.settings import PaperSettings, seed_overrides
from pipelines.paper.side_by_side import side_by_side

NO_CLIPS: Mapping[str, Any] = {"tracked_clips_per_client": 0, "videos_per_client": 0, "instruments": ()}


@dataclass(frozen=True)
class Trial:
    """A federation that differs from the main tables' in what was `chosen`; `setting` is what its point will say."""

    paper: PaperSettings
    sweep: str
    method: str
    setting: Mapping[str, float]
    chosen: Mapping[str, Any]
    dealing: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = "-".join(f"{value:g}" for value in self.setting.values())
        return f"{self.sweep}-{self.method}-{values}"

    def configured(self, chosen: Mapping[str, Any]) -> Configuration:
        overrides = seed_overrides(self.paper, self.paper.seeds[0], self.method)
        return configure(self.paper.profile, combine(overrides, chosen))


def run_participation(paper: PaperSettings, method: str) -> None:
    """One method with fewer clients in each round; everybody is in the main tables."""
    counts = paper.sweeps.clients_per_round
    chosen = {count: {"training.federation.clients_per_round": count} for count in counts}
    trials = [Trial(paper, PARTICIPATION, method, {"clients_per_round": count}, chosen[count]) for count in counts]
    _write(paper, trials, PARTICIPATION, method)


def run_dealt(paper: PaperSettings, value: str) -> None:
    """Every method of the sweep on the same clients, to whom the clips were dealt with one concentration."""
    setting = {"alpha": float(value)}
    dealing = {"by": "dirichlet", "alpha": setting["alpha"], "unit": "video"}
    trials = [Trial(paper, DEALT, method, setting, {}, dealing) for method in paper.sweeps.methods]
    _write(paper, trials, DEALT, value)


def run_noise(paper: PaperSettings, value: str) -> None:
    """The full method with one noise multiplier and every clipping norm; clips are generated too."""
    z, norms = float(value), paper.sweeps.clip_norms
    key = "training.privacy"
    chosen = {norm: {f"{key}.noise_multiplier": z, f"{key}.clip_norm": norm} for norm in norms}
    trials = [Trial(paper, NOISE, NOISY, {"z": z, "C": norm}, chosen[norm]) for norm in norms]
    _write(paper, trials, NOISE, value)


def _write(paper: PaperSettings, trials: list[Trial], sweep: str, name: str) -> None:
    write_points(paper.folder.sweep(sweep) / f"{name}.json", side_by_side(run_trial, trials, available_cores()))


def run_trial(trial: Trial) -> Point:
    from evaluation.experiments.paper.federations import (  # seconds, in each process beside the other's
        deal_anew,
        run_point,
        scratch_run,
    )

    paper, configured = trial.paper, trial.configured(trial.chosen)
    # What noise does to the picture is of interest, too; other sweeps look at the losses.
    measured = configured.evaluation.model_copy(update=NO_CLIPS) if trial.sweep == NOISE else None
    with scratch_run(paper.folder, paper.seeds[0], str(trial)) as run:
        if trial.dealing:
            dealing = {**trial.dealing, "clients": configured.studio.clients}
            chosen = {f"preparation.partition.{key}": value for key, value in dealing.items()}
            deal_anew(run, trial.configured(chosen).preparation, workers=1)
        return run_point(
            run, trial.method, configured.training, configured.seed, trial.setting, workers=1, evaluation=measured
        )
