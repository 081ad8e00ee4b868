"""The JSON documents of commands under --json: the same figures as in their text."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.folders import RunFolder
from preparation.quarantine import QuarantineRow

if TYPE_CHECKING:
    from training.settings import TrainingSettings

CLAIMED = ("private", "epsilon_release", "epsilon_server", "delta", "mark")
"""The figures of a privacy report that documents repeat."""


def results_document(root: Path) -> dict[str, Any]:
    """Headline figures of every method, acceptance criteria, what was not measured, privacy, and where everything is;
    before there are results, only where the run is."""
    from evaluation.catalogue import columns_for
    from evaluation.results.document import read_results

    folder = RunFolder(root)
    if not folder.results.exists():
        return {"run": root}
    results = read_results(folder.results)
    names = ("private", *(one.key for one in columns_for(results["methods"], "summary")))
    return {
        "run": root,
        "report": root / results["report"],
        "results": folder.results,
        "methods": {
            method: {name: values.get(name) for name in names} for method, values in results["methods"].items()
        },
        "bars": results["bars"],
        "missing": results.get("missing", []),
        "privacy": {name: results["privacy"].get(name) for name in CLAIMED},
        "seconds": results["seconds"]["total"],
        "peak_memory_gb": results["peak_memory_gb"],
    }


def preparation_document(root: Path, training: TrainingSettings) -> dict[str, Any]:
    """Samples, what was left out and why, doubted identities, who may be trained on, and who can train, be validated
    and be tested."""
    from preparation.clients.consent import objections
    from preparation.clients.roles import load_clients, of_role
    from preparation.media.rates import FPS
    from preparation.quarantine import load_quarantine
    from training.readiness import document, standings

    folder = RunFolder(root)
    people, samples, frames = prepared(root)
    clients = of_role(load_clients(folder.clients_table), "client")
    refused = objections(folder, clients, "training", training.consent.required)
    return {
        "run": root,
        "people": people,
        "samples": samples,
        "seconds": frames / FPS,
        "quarantined": alike(load_quarantine(folder.quarantine)),
        "quarantine_table": folder.quarantine,
        "converted": converted(folder),
        "identities": _doubted_identities(folder.identities) if folder.identities.exists() else None,
        "clients": len(clients),
        "may_be_trained_on": len(clients) - len(refused),
        "sit_out": dict(Counter(refused.values())),
        "can": document(standings(folder, training)),
    }


def training_document(root: Path, methods: Sequence[str]) -> dict[str, Any]:
    """The backbone, and each method's adapter with its rounds and what may be claimed of it."""
    from evaluation.results.run_files import read_privacy, read_rounds

    folder = RunFolder(root)
    trained = {}
    for method in methods:
        privacy = read_privacy(folder, method)
        claims = {name: privacy[name] for name in CLAIMED}
        trained[method] = {"adapter": folder.adapter(method), "rounds": len(read_rounds(folder, method)), **claims}
    return {"run": root, "backbone": folder.model("backbone"), "methods": trained}


def _doubted_identities(path: Path) -> dict[str, Any]:
    from preparation.clients.identity import load_report

    report = load_report(path)
    mismatches, pairs = len(report.mismatches), len(report.same_person)
    return {"report": path, "clips_of_another_face": mismatches, "pairs_of_one_person": pairs}


def prepared(root: Path) -> tuple[int, int, int]:
    """How many people's shards there are, and the samples and frames in them."""
    from preparation.shards.store import load_index

    indices = [load_index(path.parents[1]) for path in sorted(root.glob("clients/*/shards/index.json"))]
    return len(indices), sum(index.samples for index in indices), sum(index.frames for index in indices)


def converted(folder: RunFolder) -> dict[str, int]:
    """Number of clips by conversion, the most frequent first: the conversions in the manifest, and those that the
    descriptions of crops add."""
    from preparation.corpora.manifest import load_manifest
    from preparation.crops.pieces import crop_names

    found: Counter[str] = Counter()
    for clip in load_manifest(folder.manifest) if folder.manifest.exists() else []:
        made = set(clip.conversions.made())
        crops = folder.crops_of(clip.clip_id)
        # Every piece of a recording names what reading the whole of it converted.
        description = crops / f"{crop_names(crops, clip.name)[0]}.json"
        with contextlib.suppress(OSError, ValueError):  # a clip without a crop, or with a damaged one
            made |= set(json.loads(description.read_text(encoding="utf-8")).get("conversions", {}))
        found.update(made)
    return dict(found.most_common())


def alike(rows: Iterable[QuarantineRow]) -> list[dict[str, Any]]:
    """Quarantine rows by step, reason and remedy, the most frequent first; each with a count and its first file."""
    rows = list(rows)
    first = {(row.step, row.reason, row.remedy): row.file for row in reversed(rows)}
    return [
        {"step": step, "reason": reason, "remedy": remedy, "files": count, "first": first[step, reason, remedy]}
        for (step, reason, remedy), count in Counter((row.step, row.reason, row.remedy) for row in rows).most_common()
    ]
