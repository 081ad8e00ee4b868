"""Compares nights: which metrics got significantly worse since an earlier night, in sentences, and their histories."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from common.errors import CorruptFileError
from common.folders import METRICS, RunFolder
from evaluation.catalogue import compared, metric, name_of
from evaluation.measuring.protocol import read_metrics
from evaluation.measuring.significance import Comparison, compare

EARLIER = " earlier"


@dataclass(frozen=True)
class Night:
    """What one night measured: `models` (method -> version), `means` (method -> metric -> mean over people)."""

    night: str
    panel: str
    people: int
    clips: int
    settings: str
    models: dict[str, str]
    versions: dict[str, str]
    means: dict[str, dict[str, float]]
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One method's metric in two nights, compared person by person on the same clips."""

    comparison: Comparison
    before: float
    now: float
    new_model: bool

    @property
    def method(self) -> str:
        return self.comparison.method

    @property
    def metric(self) -> str:
        return self.comparison.metric

    @property
    def worse(self) -> bool:
        """Whether the mean moved in the bad direction; `comparison.p_holm` says how surely."""
        return self.comparison.difference * metric(self.metric).sign < 0

    def sentence(self) -> str:
        found = self.comparison
        higher = metric(self.metric).better == "higher"
        worse_on = found.clients - found.clients_higher if higher else found.clients_higher
        model = "a new model" if self.new_model else "the same model"
        return (
            f"{name_of(self.method)}: {metric(self.metric).in_sentence} {'fell' if higher else 'rose'} from "
            f"{self.before:.4g} to {self.now:.4g}, worse for {worse_on} of {found.clients} people "
            f"(p = {found.p_holm:.2g}, {model})"
        )


def night_metrics() -> tuple[str, ...]:
    """Keys of the metrics on which nights are compared: those on which methods are, if one direction is better."""
    return tuple(key for key in compared() if metric(key).sign)


def read_nights(run: RunFolder) -> list[Night]:
    """All nights that were measured completely, the oldest first; raises CorruptFileError for a damaged file."""
    nights = []
    for path in sorted(run.nightly.glob("*/night.json")):
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", path.parent.name):
            try:
                nights.append(Night(**json.loads(path.read_text(encoding="utf-8"))))
            except (ValueError, TypeError) as error:
                raise CorruptFileError(
                    f"{path} does not describe a night: {error}", remedy="remove it, or measure that night again"
                ) from error
    return nights


def comparable(nights: Sequence[Night], back: int = 1) -> tuple[Night, Night] | None:
    """The last night, and the one `back` nights before it among those with the same panel, settings and seed.

    With fewer such nights the second is the oldest of them; None where the last night is the only one.
    """
    alike = [night for night in nights if (night.panel, night.settings) == (nights[-1].panel, nights[-1].settings)]
    return (alike[-1], alike[max(0, len(alike) - 1 - back)]) if len(alike) > 1 else None


def changes(run: RunFolder, now: Night, before: Night, seed: int = 0) -> list[Change]:
    """The change of every metric of every method that both nights have, tested by `significance.compare` with Holm's
    correction over the methods."""
    methods = [method for method in now.means if method in before.means]
    rows = [_rows(run, now, method).assign(method=method) for method in methods]
    rows += [_rows(run, before, method).assign(method=method + EARLIER) for method in methods]
    if not rows:
        return []
    found = compare(pd.concat(rows), [(method, method + EARLIER) for method in methods], night_metrics(), seed)
    return [
        Change(
            comparison,
            before.means[comparison.method][comparison.metric],
            now.means[comparison.method][comparison.metric],
            now.models.get(comparison.method) != before.models.get(comparison.method),
        )
        for comparison in found
        if comparison.clients
    ]


def significantly_worse(found: Sequence[Change], level: float) -> list[Change]:
    """The changes for the worse whose p (Holm) is below `level`."""
    return [change for change in found if change.worse and change.comparison.p_holm < level]


def smallest_p(people: int, methods: int) -> float:
    """The smallest p (Holm) that so many people and methods allow; no change can be significant at a lower level."""
    return min(1.0, 2 / 2**people * methods)


def history(nights: Sequence[Night]) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """metric -> method -> [(night, mean)], for the metrics on which nights are compared."""
    found: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for key in night_metrics():
        for night in nights:
            for method, means in night.means.items():
                if key in means:
                    found.setdefault(key, {}).setdefault(method, []).append((night.night, means[key]))
    return found


def _rows(run: RunFolder, night: Night, method: str) -> pd.DataFrame:
    return read_metrics(run.nightly / night.night / method / METRICS)
