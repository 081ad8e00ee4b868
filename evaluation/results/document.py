"""Assembles, writes and reads `results.json`: all results of a run in one file, for scripts and tests.

Nothing in it is typed by hand: figures come from the metric rows, the rest from what the stages measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import PrivFedTalkError
from common.files import write_text
from evaluation.catalogue import BACKBONE, compared, federated, of_clips, of_sets, personal_of
from evaluation.measuring.protocol import COLUMNS, summarise
from evaluation.measuring.significance import Comparison, Estimate, compare
from evaluation.results.acceptance import judge_criteria
from evaluation.results.gates import judge_gates
from preparation.settings import CorpusKind


@dataclass(frozen=True)
class RunFacts:
    """What results.json has besides metric rows, from the stages of a run; plain values, ready for JSON."""

    seconds: Mapping[str, float]
    peak_memory_gb: float
    corpus: Mapping[str, Any]  # speakers, clips, face_rate and what else describes it
    validation_losses: Mapping[str, Mapping[str, float]]  # method -> client -> paired held-out loss
    privacy: Mapping[str, Any]
    communication: Mapping[str, Any]
    report: str  # path relative to results.json
    versions: Mapping[str, str]
    face_tracker: str
    seed: int
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # further facts of a method
    together: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)  # method -> role -> figures
    missing: Sequence[Mapping[str, Any]] = ()  # metrics, reason, remedy


def assemble(table: pd.DataFrame, facts: RunFacts) -> dict[str, Any]:
    """The content of results.json from metric rows (columns as `protocol.COLUMNS`) of all methods.

    `methods` has the figures of the clients' held-out clips, `methods_unseen` those of people who never trained.
    """
    _check_finite(table)
    table = pd.concat([table, _loss_rows(facts.validation_losses)], ignore_index=True)
    of_clients = table[table["role"] == "client"]
    comparisons = compare_methods(of_clients, facts.seed)
    results: dict[str, Any] = {
        "seconds": {stage: round(value, 1) for stage, value in facts.seconds.items()},
        # Rounded up to whole gigabytes: the measured peak differs by a few megabytes between otherwise equal runs.
        "peak_memory_gb": math.ceil(facts.peak_memory_gb),
        "corpus": dict(facts.corpus),
        "face_tracker": facts.face_tracker,
        "seed": facts.seed,
        "methods": _methods(of_clients, facts, comparisons, "client"),
        "methods_unseen": _methods(table[table["role"] == "unseen"], facts, [], "unseen"),
        "comparisons": [_numbers(vars(comparison)) for comparison in comparisons],
        "privacy": dict(facts.privacy),
        "communication": dict(facts.communication),
        "missing": [dict(one) for one in facts.missing],
        "report": facts.report,
        "versions": dict(facts.versions),
    }
    rendered = facts.corpus.get("kind", CorpusKind.STUDIO) == CorpusKind.STUDIO
    results["bars"] = judge_criteria(results) if rendered else []  # they were set on rendered people
    results["gates"] = judge_gates(results["methods"])
    return results


def compare_methods(of_clients: pd.DataFrame, seed: int = 0) -> list[Comparison]:
    """Comparisons of each federated method with the frozen backbone and with the other federated methods, and of
    clients' own adapters with the backbone and with the shared adapter that they started from."""
    present = [method for method in federated() if method in set(of_clients["method"])]
    pairs = [(method, BACKBONE) for method in present]
    pairs += [(a, b) for index, a in enumerate(present) for b in present[index + 1 :]]
    personal = [method for method in federated() if personal_of(method) in set(of_clients["method"])]
    pairs += [(personal_of(method), other) for method in personal for other in (BACKBONE, method)]
    return compare(of_clients, pairs, compared(), seed)


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write results.json whole or not at all; raises ValueError for a NaN, which is no valid JSON."""
    write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise PrivFedTalkError(
            f"no results at {path}", remedy="measure first: privfedtalk evaluate RUN (`make demo` does all of it)"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _check_finite(table: pd.DataFrame) -> None:
    """Raise PrivFedTalkError for an infinite value, a mistake that would spoil a mean; NaN only means undefined."""
    infinite = table[table["value"].abs() == math.inf]
    for row in infinite.itertuples():
        raise PrivFedTalkError(
            f"{row.metric} of {row.method} is infinite on {row.clip_id}",
            remedy="the generated frames equal the truth: see what the method returned",
        )


def _loss_rows(losses: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """The validation losses as metric rows: one value for each client, over all its held-out clips."""
    rows = [
        (method, "client", client, "", "validation_loss", loss)
        for method, by_client in losses.items()
        for client, loss in by_client.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _methods(
    table: pd.DataFrame, facts: RunFacts, comparisons: list[Comparison], role: str
) -> dict[str, dict[str, Any]]:
    return {
        method: _method(method, found, comparisons)
        | {name: facts.together.get(method, {}).get(role, {}).get(name) for name in of_sets()}
        | dict(facts.methods.get(method, {}))
        for method, found in summarise(table, facts.seed).items()
    }


def _method(method: str, found: dict[str, Estimate], comparisons: list[Comparison]) -> dict[str, Any]:
    """Mean, standard error over clients and interval of every metric; null where it was not measured."""
    row: dict[str, Any] = {}
    for metric in of_clips():
        known = found.get(metric)
        row[metric] = known and _number(known.mean)
        row[f"{metric}_se"] = known and _number(known.standard_error)
        row[f"{metric}_ci"] = known and [_number(bound) for bound in (known.low, known.high)]
    counted = found.get("psnr") or found.get("validation_loss")
    row["n"] = counted.n if counted else 0
    row["clients"] = counted.clients if counted else 0
    for comparison in comparisons:
        of_loss = comparison.metric == "validation_loss" and comparison.baseline == BACKBONE
        if of_loss and comparison.method == method:
            row["clients_better_than_backbone"] = comparison.clients - comparison.clients_higher
    return row


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in values.items()}


def _number(value: float) -> float | None:
    """The value, or None for NaN: JSON has no NaN, so what is undefined becomes null."""
    return None if math.isnan(value) else value
