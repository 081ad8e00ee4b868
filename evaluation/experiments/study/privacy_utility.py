"""What privacy costs: the full method under noise multipliers and clipping norms, each with both ε and its figures.

The cells are the study's, in its central world, so worlds and networks are shared and a sweep that was killed goes on.
ε is what the mechanism gives the study's handful of clients over its rounds: large, and said as it is. What makes it
small is people, so each row also says how many the same training would need for ε ≤ 8 at the same noise on the average.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from common.files import replacing
from evaluation.catalogue import metric
from evaluation.experiments.study.cells import Arm
from evaluation.experiments.study.experiments import BACKBONE, Condition, Curve, Experiment
from evaluation.experiments.study.page import table
from evaluation.experiments.study.running import run_study
from evaluation.experiments.study.settings import PrivacyUtilitySettings, StudySettings
from evaluation.experiments.study.summary import Results, gains, levels
from evaluation.experiments.study.worlds import public_folder
from evaluation.figures.charts import INK, MORE_COLOURS, legend_above, save
from evaluation.tables.columns import to_csv
from training.adapters.adapter import Adapter
from training.model.backbones.kinds import load_backbone
from training.privacy.accounting.epsilon import Schedule, finite
from training.privacy.accounting.guarantee import epsilons, meaningful_population
from training.privacy.digits import three_digits

METHOD = "privfedtalk"
SEEN = ("identity", "mouth_psnr", "opening_error", "lip_correlation")
"""What is measured of generated clips, beside the loss."""
FIGURES = {"loss": "loss to the backbone's, %"} | {key: metric(key).axis for key in SEEN}
DRAWN = ("loss", "identity", "opening_error", "lip_correlation")


def study_settings() -> StudySettings:
    """The study's, without the losses along the rounds."""
    return StudySettings(curve_rounds=())


def experiment(settings: PrivacyUtilitySettings) -> Experiment:
    """A condition for each z, in it a curve for each C."""

    def curves(z: float) -> dict[str, Curve]:
        arms = {name_of(C): Arm(method=METHOD, noise_multiplier=z, clip_norm=C) for C in settings.clip_norms}
        return {"backbone": BACKBONE} | {name: Curve(arm) for name, arm in arms.items()}

    conditions = tuple(Condition(z, curves(z)) for z in settings.noise_multipliers)
    return Experiment("privacy", "noise multiplier", conditions, measured="generated", seeds=settings.seeds)


def name_of(C: float) -> str:
    return f"C = {C:g}"


def run(home: Path, settings: PrivacyUtilitySettings, minutes: float | None = None) -> list[str]:
    """Run the cells that have no results yet; returns what failed, one line each."""
    return run_study(home, experiment(settings).cells(), study_settings(), settings.workers, minutes)


def rows(home: Path, settings: PrivacyUtilitySettings) -> pd.DataFrame:
    """One row a (z, C) that was run; each figure with half its 95 % interval over people in `<figure>_half`."""
    study, asked = study_settings(), experiment(settings)
    results, found = Results(home, study), []
    dimension = dimension_of(home, settings.seeds[0], study)
    losses = {(gain.x, gain.curve): gain for gain in gains(results, asked)}
    for condition in asked.conditions:
        measured = levels(results, asked, condition, SEEN)
        for C in settings.clip_norms:
            gain, z = losses.get((condition.x, name_of(C))), float(condition.x)
            if gain is None:
                continue
            row: dict[str, float | int | None] = {"noise_multiplier": z, "clip_norm": C}
            row |= _guarantee(study, condition.curves[name_of(C)].arm, dimension)
            row |= {"loss": gain.mean, "loss_half": gain.high - gain.mean, "people": gain.people}
            for figure, (mean, half) in measured[name_of(C)].items():
                row |= {figure: mean, f"{figure}_half": half}
            found.append(row)
    return pd.DataFrame(found)


def _guarantee(study: StudySettings, arm: Arm, dimension: int) -> dict[str, float | int | None]:
    """Both ε of the arm's rounds, None where no finite one holds, and the clients that ε ≤ 8 would take."""
    training, clients = arm.training(study), study.studio.clients
    privacy, rounds = training.privacy, training.federation.rounds
    schedule = Schedule(clients, clients, rounds, "full")
    release, server = epsilons(privacy, schedule, dimension, privacy.target_delta(clients))
    many = meaningful_population(privacy, schedule, dimension) if privacy.noise_multiplier else None
    return {
        "epsilon_release": finite(release.value),
        "epsilon_server": finite(server.value),
        "delta": privacy.target_delta(clients),
        "clients_for_epsilon_8": many.clients if many else None,
    }


def dimension_of(home: Path, seed: int, study: StudySettings) -> int:
    backbone = load_backbone(public_folder(home, seed).model("backbone"))
    return len(Adapter(backbone, study.training.adapter, seed))


def markdown(found: pd.DataFrame) -> str:
    """The table for people."""
    head = ["z", "C", "ε released", "ε server", "δ", "clients for ε ≤ 8", *FIGURES.values()]
    lines = [
        [
            f"{row['noise_multiplier']:g}",
            f"{row['clip_norm']:g}",
            *(
                three_digits(row[name])
                for name in ("epsilon_release", "epsilon_server", "delta", "clients_for_epsilon_8")
            ),
            *(_with_half(row.get(name), row.get(f"{name}_half")) for name in FIGURES),
        ]
        for row in found.to_dict("records")
    ]
    return table(head, lines)


def _with_half(value: float | None, half: float | None) -> str:
    return "–" if value is None or half is None else f"{value:.3g} ± {half:.2g}"


def plot(found: pd.DataFrame) -> Figure:
    """A panel a figure that was measured: against z, a line for each C with its interval over people."""
    figure = Figure(figsize=(9.6, 6.2), layout="constrained")
    noises = sorted(found["noise_multiplier"].unique())
    places = {z: number for number, z in enumerate(noises)}
    drawn = [name for name in DRAWN if name in found]
    panels = list(figure.subplots(2, 2).flat)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, drawn, strict=False):
        for number, (C, part) in enumerate(found.groupby("clip_norm")):
            part = part.sort_values("noise_multiplier")
            # A little aside, or intervals would cover one another.
            x = [places[z] + 0.06 * (number - (found["clip_norm"].nunique() - 1) / 2) for z in part["noise_multiplier"]]
            colour = MORE_COLOURS[number % len(MORE_COLOURS)]
            axes.errorbar(
                x, part[name], part[f"{name}_half"], color=colour, marker="o", markersize=4, capsize=3,
                label=f"C = {C:g}",
            )  # fmt: skip
        if name == "loss":
            axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(range(len(noises)), [_tick(found, z) for z in noises], fontsize=8)
        axes.set_ylabel(FIGURES[name], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    legend_above(figure, columns=8)
    return figure


def _tick(found: pd.DataFrame, z: float) -> str:
    first = found.loc[found["noise_multiplier"] == z].iloc[0]
    return f"z = {z:g}\nε = {three_digits(first['epsilon_release'])}, δ = {first['delta']:.0e}"


def write(folder: Path, found: pd.DataFrame) -> list[Path]:
    """`table.csv`, `table.md`, `plot.png` and `plot.svg` in `folder`."""
    texts: dict[str, Callable[[], str]] = {"table.csv": lambda: to_csv(found, "%.6g")}
    texts["table.md"] = lambda: markdown(found) + "\n"
    for name, text in texts.items():
        with replacing(folder / name) as partial:
            partial.write_text(text(), encoding="utf-8")
    picture = plot(found)
    for name in ("plot.png", "plot.svg"):
        save(picture, folder / name)
    return [folder / name for name in (*texts, "plot.png", "plot.svg")]
