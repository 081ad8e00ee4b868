"""What the demo must reach. A bar is judged on the worst of the methods that it speaks of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

BACKBONE = "backbone"
FEDERATED = (
    "privfedtalk", "fedavg", "fedprox", "scaffold", "fedadam", "adapters_only", "dp_only", "tdc_only", "isfa_only",
    "paper_literal",
)  # fmt: skip
GATES = ("copy_reference", "vae_ceiling", "noise")
BEATEN_ON = ("psnr", "ssim", "mouth_psnr", "lip_correlation", "identity")

Results = Mapping[str, Any]
Value = float | None


@dataclass(frozen=True)
class Bar:
    """A bound on one figure of results.json; `value` returns None where it was not measured."""

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


def judge(results: Results) -> list[dict[str, Any]]:
    """Every bar with its value and whether it is met (null: not measured)."""
    judged = []
    for bar in BARS:
        value = bar.value(results)
        judged.append(
            {
                "name": bar.name,
                "what": bar.what,
                "direction": bar.direction,
                "bar": bar.bound,
                "value": value,
                "pass": None if value is None else bar.passed(value),
            }
        )
    return judged


def _of(results: Results, method: str, metric: str) -> Value:
    return results["methods"].get(method, {}).get(metric)


def _federated(results: Results) -> list[str]:
    return [method for method in FEDERATED if method in results["methods"]]


def _worst(values: Iterable[Value], pick: Callable[[Iterable[float]], float]) -> Value:
    """The worst of `values`; one that is missing leaves the bar unmeasured."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return pick(known) if known and len(known) == len(listed) else None


def _lowest(metric: str, and_backbone: bool = False) -> Callable[[Results], Value]:
    def value(results: Results) -> Value:
        methods = _federated(results) + ([BACKBONE] if and_backbone else [])
        return _worst((_of(results, method, metric) for method in methods), min)

    return value


def _highest(metric: str) -> Callable[[Results], Value]:
    return lambda results: _worst((_of(results, method, metric) for method in _federated(results)), max)


def _over(
    metric: str, baseline: str, pick: Callable[[Iterable[float]], float], sign: int = 1
) -> Callable[[Results], Value]:
    """The worst federated method's `metric` minus the baseline's (times `sign`)."""

    def value(results: Results) -> Value:
        base = _of(results, baseline, metric)
        values = [_of(results, method, metric) for method in _federated(results)]
        return _worst((None if one is None or base is None else sign * (one - base) for one in values), pick)

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
    """On how many of `BEATEN_ON` some method is no better than noise."""
    margins = [_over(metric, "noise", min)(results) for metric in BEATEN_ON]
    return None if None in margins else float(sum(margin is not None and margin <= 0 for margin in margins))


BARS = (
    Bar("face_rate", "share of rendered frames in which the tracker finds a face", "at least", 0.98,
        lambda results: results["corpus"].get("face_rate")),
    Bar("landmarker_rate", "share of generated frames in which the tracker finds a face", "at least", 0.95,
        _lowest("landmarker_rate", and_backbone=True)),
    Bar("vae_psnr", "real video through the autoencoder, dB", "at least", 28.0,
        lambda results: _of(results, "vae_ceiling", "psnr")),
    Bar("vae_mouth_psnr", "the same on the mouth, dB", "at least", 27.0,
        lambda results: _of(results, "vae_ceiling", "mouth_psnr")),
    Bar("lip_correlation", "lips with the true opening", "at least", 0.90, _lowest("lip_correlation")),
    Bar("swapped_new", "lips with foreign speech's own truth", "at least", 0.85, _lowest("swapped_new")),
    Bar("swapped_old", "lips with the truth that was not spoken", "at most", 0.2, _highest("swapped_old")),
    Bar("mouth_over_still", "mouth PSNR over a still picture, dB", "at least", 0.5,
        _over("mouth_psnr", "copy_reference", min)),
    Bar("identity", "same person, by the identity ruler", "at least", 0.90, _lowest("identity")),
    Bar("loss_to_backbone", "validation loss minus the frozen backbone's", "below", 0.0,
        _over("validation_loss", BACKBONE, max)),
    Bar("clients_better", "share of clients with a lower validation loss", "at least", 0.75, _share_better),
    Bar("mouth_over_backbone", "mouth PSNR over the frozen backbone, dB", "above", 0.0,
        _over("mouth_psnr", BACKBONE, min)),
    Bar("opening_to_backbone", "opening error minus the frozen backbone's", "below", 0.0,
        _over("opening_error", BACKBONE, max)),
    Bar("lips_lost", "lip correlation lost by federating", "at most", 0.03,
        _over("lip_correlation", BACKBONE, max, sign=-1)),
    Bar("lost_to_noise", "metrics on which a method does not beat noise", "at most", 0.0, _lost_to_noise),
)  # fmt: skip
