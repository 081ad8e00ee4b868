"""Whether a model generates at all: it must beat noise on everything, and a still picture on the lips.

A mean that is no better than a gate's is a failure; how much better is for the tests of significance to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.bars import BEATEN_ON, GATES
from evaluation.names import name_of

NOISE = dict.fromkeys(
    (*BEATEN_ON, "mouth_ssim", "face_identity", "arcface_identity", "light_asd_contrast", "lse_c"), 1
) | dict.fromkeys(
    ("opening_error", "validation_loss", "lip_landmark_distance", "tof", "lse_d", "lpips_alex", "lpips_vgg", "kid",
     "fid", "fvd"), -1
)  # fmt: skip
"""Metric -> 1 where higher is better, -1 where lower is; a metric that was not measured on both is left out."""

LIPS = {"lip_correlation": 1, "opening_error": -1}
LIPS_OF_REAL_CLIPS = {"light_asd_contrast": 1, "lse_c": 1}
"""Where no true opening is known, lips are judged by how much they belong to their sound."""
NEAR_THE_MOUTH = {"mouth_psnr": 1, "mouth_ssim": 1, "lip_landmark_distance": -1}
"""A still that happens to be sharp can be nearer to the truth on these than lips that move and are blurred."""


def judge_gates(methods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every model of `results["methods"]` against the gates that are there: one row a comparison, with `pass`."""
    rows: list[dict[str, Any]] = []
    for method in (name for name in methods if name not in GATES):
        rows += _against(methods, method, "noise", NOISE)
        lips = list(_against(methods, method, "copy_reference", LIPS))
        rows += lips or _against(methods, method, "copy_reference", LIPS_OF_REAL_CLIPS)
    return rows


def failures(judged: list[dict[str, Any]]) -> list[str]:
    """One sentence for each comparison that a model lost."""
    return [
        f"{name_of(row['method'])} does not beat {name_of(row['gate']).lower()} on {row['metric'].replace('_', ' ')}: "
        f"{row['value']:.3g} against {row['bound']:.3g}"
        for row in judged
        if not row["pass"]
    ]


def concessions(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each figure around the mouth on which a still picture is nearer to the truth than a model."""
    models = [name for name in methods if name not in GATES]
    found = []
    for metric, sign in NEAR_THE_MOUTH.items():
        rows = [row for name in models for row in _against(methods, name, "copy_reference", {metric: sign})]
        lost = [name_of(row["method"]) for row in rows if not row["pass"]]
        if lost:
            who = "every model" if len(lost) == len(models) else ", ".join(lost)
            found.append(f"A still picture is nearer to the truth than {who} on {metric.replace('_', ' ')}.")
    return found


def _against(
    methods: Mapping[str, Mapping[str, Any]], method: str, gate: str, metrics: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    for metric, sign in metrics.items():
        value, bound = (methods.get(name, {}).get(metric) for name in (method, gate))
        if value is not None and bound is not None:
            won = sign * (value - bound) > 0
            yield {"method": method, "gate": gate, "metric": metric, "value": value, "bound": bound, "pass": won}
