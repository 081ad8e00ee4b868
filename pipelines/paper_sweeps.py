"""The sweeps of the paper's tables, each stage a few federations of the first seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.run import available_cores
from evaluation.paper.points import DEALT, NOISE, NOISY, PARTICIPATION, Point, write_points
from evaluation.paper.trying import deal_anew, run_point, scratch_run
from evaluation.settings import EvaluationSettings
from pipelines.configuration import Configuration, load
from pipelines.paper import PaperSettings, seed_overrides
from preparation.folders import RunFolder


def run_participation(paper: PaperSettings, method: str) -> None:
    """One method with fewer clients in each round; everybody is in the main tables."""
    points = []
    for count in paper.sweeps.clients_per_round:
        chosen = {"training.federation.clients_per_round": count}
        with scratch_run(paper.folder, paper.seeds[0], f"{PARTICIPATION}-{method}-{count}") as run:
            points.append(_point(paper, run, method, chosen, {"clients_per_round": count}))
    write_points(paper.folder.sweep(PARTICIPATION) / f"{method}.json", points)


def run_dealt(paper: PaperSettings, value: str) -> None:
    """Every method of the sweep on the same clients, to whom the clips were dealt with one concentration."""
    setting = {"alpha": float(value)}
    with scratch_run(paper.folder, paper.seeds[0], f"{DEALT}-{value}") as run:
        people = _configured(paper, None, {})
        clients = people.studio.clients
        dealing = {"by": "dirichlet", "alpha": setting["alpha"], "clients": clients, "unit": "video"}
        chosen = {f"preparation.partition.{key}": value for key, value in dealing.items()}
        deal_anew(run, _configured(paper, None, chosen).preparation, available_cores())
        points = [_point(paper, run, method, {}, setting) for method in paper.sweeps.methods]
    write_points(paper.folder.sweep(DEALT) / f"{value}.json", points)


def run_noise(paper: PaperSettings, value: str) -> None:
    """The full method with one noise multiplier and every clipping norm; clips are generated too."""
    z, points = float(value), []
    for norm in paper.sweeps.clip_norms:
        chosen = {"training.privacy.noise_multiplier": z, "training.privacy.clip_norm": norm}
        with scratch_run(paper.folder, paper.seeds[0], f"{NOISE}-{value}-{norm:g}") as run:
            points.append(_point(paper, run, NOISY, chosen, {"z": z, "C": norm}, generated=True))
    write_points(paper.folder.sweep(NOISE) / f"{value}.json", points)


def _point(
    paper: PaperSettings,
    run: RunFolder,
    method: str,
    chosen: Mapping[str, Any],
    setting: Mapping[str, float],
    generated: bool = False,
) -> Point:
    configured = _configured(paper, method, chosen)
    update = {"tracked_clips_per_client": 0, "videos_per_client": 0, "instruments": ()}
    measured: EvaluationSettings | None = configured.evaluation.model_copy(update=update) if generated else None
    return run_point(
        run, method, configured.training, configured.seed, setting, configured.workers or available_cores(), measured
    )


def _configured(paper: PaperSettings, method: str | None, chosen: Mapping[str, Any]) -> Configuration:
    overrides = seed_overrides(paper, paper.seeds[0], method)
    return load(paper.profile, [*overrides, *(f"{key}={value}" for key, value in chosen.items())])
