"""Checks that a model generates at all: it must beat noise on everything, and a still picture on the lips.

A mean that is no better than a gate's is a failure; whether a difference is significant is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evaluation.catalogue import (
    FACE_EMBEDDER,
    GATES,
    IDENTITY_RULER,
    Metric,
    gated,
    metric,
    name_of,
    of_real_people,
)


def judge_gates(methods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every model of `results["methods"]` against the gates that were measured: a row for each comparison, with
    `pass`."""
    rows: list[dict[str, Any]] = []
    # Noise about a real reference is that reference, to whatever knows faces, and no video is as like it.
    likeness = (IDENTITY_RULER, FACE_EMBEDDER) if of_real_people(methods) else ()
    against_noise = [one for one in gated("noise") if one.instrument not in likeness]
    for method in (name for name in methods if name not in GATES):
        rows += _against(methods, method, "noise", against_noise)
        lips = list(_against(methods, method, "copy_reference", gated("still")))
        rows += lips or _against(methods, method, "copy_reference", gated("still, by sound"))
    return rows


def failures(judged: list[dict[str, Any]]) -> list[str]:
    """One sentence for each comparison that a model lost."""
    return [
        f"{name_of(row['method'])} does not beat {name_of(row['gate']).lower()} on "
        f"{metric(row['metric']).in_sentence}: {row['value']:.3g} against {row['bound']:.3g}"
        for row in judged
        if not row["pass"]
    ]


def concessions(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each metric of the mouth on which a still picture is nearer to the truth than some model."""
    models = [name for name in methods if name not in GATES]
    found = []
    for conceded in gated("conceded to the still"):
        rows = [row for name in models for row in _against(methods, name, "copy_reference", [conceded])]
        lost = [name_of(row["method"]) for row in rows if not row["pass"]]
        if lost:
            who = "every model" if len(lost) == len(models) else ", ".join(lost)
            found.append(f"A still picture is nearer to the truth than {who} on {conceded.in_sentence}.")
    return found


def _against(
    methods: Mapping[str, Mapping[str, Any]], method: str, gate: str, metrics: Iterable[Metric]
) -> Iterator[dict[str, Any]]:
    """Rows that compare a method with a gate, one for each metric that both were measured on."""
    for one in metrics:
        value, bound = (methods.get(name, {}).get(one.key) for name in (method, gate))
        if value is not None and bound is not None:
            won = one.sign * (value - bound) > 0
            yield {"method": method, "gate": gate, "metric": one.key, "value": value, "bound": bound, "pass": won}
