"""Computes gains with intervals from the points' rows; the unit is a person under one seed, compared with itself.

Percentages are of each person's own loss under the baseline, with the same noise and timesteps. Intervals are Student's
over people; p is from sign flips of whole people (`evaluation.measuring.significance`), Holm's over the curves of a
condition. People of one seed share a backbone and a federation, so an interval is about people like these under
trainings like these; `seeds` is the number of trainings, `agreeing` the number in which the mean had the same sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from evaluation import catalogue
from evaluation.experiments.points import read_rows
from evaluation.experiments.study.design import BACKBONE, Condition, Curve, Experiment
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.setups import Setup, results_path
from evaluation.measuring.significance import Values, holm, paired_permutation, standard_error
from preparation.clients.roles import Role


@dataclass(frozen=True)
class Gain:
    """How a curve differs from its baseline in one condition: the mean over people and its 95 % interval."""

    x: float | str
    curve: str
    mean: float
    low: float
    high: float
    people: int
    better: int
    seeds: int
    agreeing: int
    p_holm: float

    @property
    def sure(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class Results:
    """The rows of a study's folder, read when they are needed; a setup that was not run has none."""

    def __init__(self, root: Path, settings: StudySettings) -> None:
        self.root, self.settings = root, settings
        self._read: dict[Path, pd.DataFrame] = {}

    def ran(self, setup: Setup) -> bool:
        return results_path(self.root, setup, self.settings).exists()

    def values(self, setup: Setup, role: Role, stage: str, metric: str) -> pd.Series | None:
        """person -> value, or None where the metric was not measured."""
        path = results_path(self.root, setup, self.settings)
        if path not in self._read:
            if not path.exists():
                return None
            self._read[path] = pd.DataFrame(read_rows(path))
        rows = self._read[path]
        rows = rows[(rows["role"] == role) & (rows["stage"] == stage) & (rows["metric"] == metric)]
        return None if rows.empty else rows.set_index("person")["value"].astype(float)

    def pooled(
        self, experiment: Experiment, condition: Condition, curve: Curve, role: Role, metric: str
    ) -> pd.Series | None:
        """(seed, person) -> value over the seeds that were run; None where none was."""
        found = {
            seed: values
            for seed in experiment.seeds
            if (values := self.values(experiment.setup(seed, condition, curve), role, curve.stage, metric)) is not None
        }
        return pd.concat(found, names=["seed", "person"]) if found else None


def gains(
    results: Results,
    experiment: Experiment,
    metric: str = "loss",
    baseline: Curve = BACKBONE,
    role: Role | None = None,
) -> list[Gain]:
    """Every curve of every condition against `baseline` in the same world; in percent for `loss`, else as a difference.

    Curves that were not run are left out.
    """
    role = role or experiment.role
    found: list[Gain] = []
    for condition in experiment.conditions:
        base = results.pooled(experiment, condition, baseline, role, metric)
        differences: dict[str, pd.Series] = {}
        for name, curve in condition.curves.items():
            values = results.pooled(experiment, condition, curve, role, metric)
            if values is None or base is None or curve == baseline:
                continue
            difference = (values - base).dropna()
            if metric == "loss":
                difference = 100 * difference / base[difference.index]
            differences[name] = difference
        adjusted = holm({name: paired_permutation(d.to_numpy(np.float64), 0) for name, d in differences.items()})
        lower_is_better = metric == "loss" or catalogue.metric(metric).better == "lower"
        for name, difference in differences.items():
            gain = _gain(condition.x, name, difference, lower_is_better)
            found.append(replace(gain, p_holm=adjusted[name]))
    return found


def _gain(x: float | str, name: str, difference: pd.Series, lower_is_better: bool) -> Gain:
    values: Values = difference.to_numpy(np.float64)
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1)) * standard_error(values) if len(values) > 1 else float("nan")
    by_seed = difference.groupby(level="seed").mean()
    better = values < 0 if lower_is_better else values > 0
    return Gain(
        x=x,
        curve=name,
        mean=mean,
        low=mean - half,
        high=mean + half,
        people=len(values),
        better=int(better.sum()),
        seeds=len(by_seed),
        agreeing=int((np.sign(by_seed) == np.sign(mean)).sum()),
        p_holm=float("nan"),
    )


def levels(
    results: Results, experiment: Experiment, condition: Condition, metrics: Sequence[str], role: Role = "client"
) -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """curve -> metric -> (mean, half the 95 % interval) over people; without metrics that were not measured."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, curve in condition.curves.items():
        for metric in metrics:
            values = results.pooled(experiment, condition, curve, role, metric)
            if values is not None:
                known = values.dropna().to_numpy(np.float64)
                half = float(stats.t.ppf(0.975, len(known) - 1)) * standard_error(known)
                found.setdefault(name, {})[metric] = (float(known.mean()), half)
    return found
