"""The demo's acceptance criteria: bounds on figures of results.json, each checked on the worst method concerned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.catalogue import BACKBONE, BASIC, federated, metric

Results = Mapping[str, Any]
Value = float | None


@dataclass(frozen=True)
class Criterion:
    """A bound on one figure of results.json; `value` returns the figure, or None where it was not measured."""

    name: str
    what: str
    direction: Literal["at least", "at most", "above", "below"]
    bound: float
    value: Callable[[Results], Value]

    def passed(self, value: float) -> bool:
        return {
            "at least": value >= self.bound,
            "at most": value <= self.bound,
            "above": value > self.bound,
            "below": value < self.bound,
        }[self.direction]


def judge_criteria(results: Results) -> list[dict[str, Any]]:
    """Every criterion with its value and whether it is met (None: not measured): the list `bars` of results.json, where
    `bar` is the bound."""
    judged = []
    for one in CRITERIA:
        value = one.value(results)
        judged.append(
            {
                "name": one.name,
                "what": one.what,
                "direction": one.direction,
                "bar": one.bound,
                "value": value,
                "pass": None if value is None else one.passed(value),
            }
        )
    return judged


def _of(results: Results, method: str, metric: str) -> Value:
    return results["methods"].get(method, {}).get(metric)


def _federated(results: Results) -> list[str]:
    return [method for method in federated() if method in results["methods"]]


def _worst(values: Iterable[Value], pick: Callable[[Iterable[float]], float]) -> Value:
    """The worst of `values`; one that is missing leaves the criterion unmeasured."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return pick(known) if known and len(known) == len(listed) else None


def _pick(key: str) -> Callable[[Iterable[float]], float]:
    """The function that picks the worst of a metric's values."""
    return max if metric(key).better == "lower" else min


def _worst_of(key: str, and_backbone: bool = False) -> Callable[[Results], Value]:
    """The worst federated method's figure; with `and_backbone` the backbone counts too."""

    def value(results: Results) -> Value:
        methods = _federated(results) + ([BACKBONE] if and_backbone else [])
        return _worst((_of(results, method, key) for method in methods), _pick(key))

    return value


def _highest(key: str) -> Callable[[Results], Value]:
    """The highest figure of a metric that has no better side."""
    return lambda results: _worst((_of(results, method, key) for method in _federated(results)), max)


def _over(key: str, baseline: str) -> Callable[[Results], Value]:
    """The worst federated method's figure minus the baseline's."""

    def value(results: Results) -> Value:
        base = _of(results, baseline, key)
        values = [_of(results, method, key) for method in _federated(results)]
        return _worst((None if one is None or base is None else one - base for one in values), _pick(key))

    return value


def _lost(key: str, baseline: str) -> Callable[[Results], Value]:
    """By how much the worst federated method stays below the baseline."""

    def value(results: Results) -> Value:
        gained = _over(key, baseline)(results)
        return None if gained is None else -gained

    return value


def _share_better(results: Results) -> Value:
    """The worst method's share of clients whose validation loss is below the backbone's."""
    shares: list[Value] = []
    for method in _federated(results):
        better = _of(results, method, "clients_better_than_backbone")
        clients = results["methods"][method]["clients"]
        shares.append(better / clients if better is not None and clients else None)
    return _worst(shares, min)


def _lost_to_noise(results: Results) -> Value:
    """The number of basic metrics on which some method is no better than noise."""
    margins = [_over(key, "noise")(results) for key in BASIC]
    return None if None in margins else float(sum(margin is not None and margin <= 0 for margin in margins))


LIPS = metric("lip_correlation")
MOUTH = metric("mouth_psnr")

CRITERIA = (
    Criterion("face_rate", "share of rendered frames in which the tracker finds a face", "at least", 0.98,
        lambda results: results["corpus"].get("face_rate")),
    Criterion("landmarker_rate", "share of generated frames in which the tracker finds a face", "at least", 0.95,
        _worst_of("landmarker_rate", and_backbone=True)),
    Criterion("vae_psnr", f"real video through the autoencoder, {metric('psnr').unit}", "at least", 28.0,
        lambda results: _of(results, "vae_ceiling", "psnr")),
    Criterion("vae_mouth_psnr", f"the same on the mouth, {MOUTH.unit}", "at least", 27.0,
        lambda results: _of(results, "vae_ceiling", "mouth_psnr")),
    Criterion("lip_correlation", f"{LIPS.in_sentence} with the true opening", "at least", 0.90,
        _worst_of("lip_correlation")),
    Criterion("swapped_new", f"another clip's speech: {LIPS.in_sentence} with that clip", "at least", 0.85,
        _worst_of("swapped_new")),
    Criterion("swapped_old", f"another clip's speech: {LIPS.in_sentence} with the clip not spoken", "at most", 0.2,
        _highest("swapped_old")),
    Criterion("mouth_over_still", f"{MOUTH.in_sentence} over a still picture, {MOUTH.unit}", "at least", 0.5,
        _over("mouth_psnr", "copy_reference")),
    Criterion("identity", "same person, by the identity ruler", "at least", 0.90, _worst_of("identity")),
    Criterion("loss_to_backbone", f"{metric('validation_loss').in_sentence} minus the frozen backbone's", "below", 0.0,
        _over("validation_loss", BACKBONE)),
    Criterion("clients_better", "share of clients with a lower validation loss", "at least", 0.75, _share_better),
    Criterion("mouth_over_backbone", f"{MOUTH.in_sentence} over the frozen backbone, {MOUTH.unit}", "above", 0.0,
        _over("mouth_psnr", BACKBONE)),
    Criterion("opening_to_backbone", f"{metric('opening_error').in_sentence} minus the frozen backbone's", "below", 0.0,
        _over("opening_error", BACKBONE)),
    Criterion("lips_lost", f"{LIPS.in_sentence} lost by federating", "at most", 0.03,
        _lost("lip_correlation", BACKBONE)),
    Criterion("lost_to_noise", "metrics on which a method does not beat noise", "at most", 0.0, _lost_to_noise),
)  # fmt: skip
