"""Gathers a run's results from its folder: the content of `results.json` and of the report page."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import PrivFedTalkError
from common.folders import CURVE, INSTRUMENTS, RunFolder
from common.text.commands import command
from evaluation.catalogue import BACKBONE, PERSONAL, has_shared_adapter, personal_of
from evaluation.figures.charts import client_gains, curves
from evaluation.figures.clients import client_distances, client_sizes
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.measuring.protocol import read_metrics
from evaluation.report.counts import counted
from evaluation.report.page import Chart, ReportData
from evaluation.report.showcase import showcase
from evaluation.results.document import RunFacts, assemble
from evaluation.results.run_files import gains, loss_file, public_curve, read_losses, read_privacy, traffic
from evaluation.settings import EvaluationSettings
from preparation.clients.report import load_client_report
from preparation.clients.roles import SPLITS, load_clients, of_role
from preparation.corpora.lrs3 import spoken_text
from preparation.corpora.manifest import load_manifest
from preparation.media.rates import FPS
from preparation.quarantine import load_quarantine
from preparation.shards.gate import Gate
from preparation.shards.store import load_index
from training.adapters.origin import weights_of
from training.adapters.record import OWN_ADAPTER

NOT_SHOWN = ("copy_reference", "noise")
"""Gates that the videos leave out: the reference panel already shows the still picture, and noise shows nothing."""


PRIVACY_OF_METHOD = {"epsilon_release": "epsilon_release", "private": "private", "privacy": "mark"}
"""Entries of a method's row in results.json that come from its privacy report: name -> the report's key."""
PERSONAL_PRIVACY = {"epsilon_release": None, "private": False, "privacy": OWN_ADAPTER}
"""The same entries for rows of clients' own adapters."""


def gather_results(
    run: RunFolder,
    methods: Sequence[str],
    references: Sequence[str],
    seconds: Mapping[str, float],
    peak_memory_gb: float,
    corpus: Mapping[str, Any],
    face_tracker: str,
    seed: int,
    required: bool = True,
) -> dict[str, Any]:
    """The content of results.json; methods and references that were not evaluated are left out.

    Also left out are the rows of people who may no longer be generated, and the figures of all clips together that
    include such people; `left_out` counts these people by reason. `required` is `training.consent.required`.
    """
    gate = Gate(run, "generation", required)
    trained = [method for method in methods if run.adapter(method).exists()]
    rows = [*(row for method in methods for row in (method, personal_of(method))), *references]
    measured = [name for name in rows if _metrics(run, name).exists() and not _of_another_adapter(run, name)]
    if not measured:
        raise _nothing_evaluated(run)
    tables = {name: read_metrics(_metrics(run, name)) for name in measured}
    hidden = gate.refused({client for table in tables.values() for client in table["client"]})
    losses = {name: _agreed(read_losses(run, name), gate) for name in measured}
    instruments = {
        name: _instruments(run, name) | ({"together": {}} if hidden.keys() & set(tables[name]["client"]) else {})
        for name in measured
    }
    sent = {method: traffic(run, method) for method in trained}
    facts = RunFacts(
        seconds={**seconds, "total": sum(seconds.values())},
        peak_memory_gb=peak_memory_gb,
        corpus=corpus,
        validation_losses={name: by_client for name, by_client in losses.items() if by_client},
        privacy=read_privacy(run, trained[0]) if trained else {},
        communication={**sent[trained[0]], "methods": sent} if trained else {},
        report=run.page.relative_to(run.root).as_posix(),
        versions=versions() | pretrained_parts(run),
        face_tracker=face_tracker,
        seed=seed,
        together={name: found["together"] for name, found in instruments.items()},
        missing=instruments[measured[0]]["missing"] if measured else [],
        methods={
            method: {to: read_privacy(run, method)[key] for to, key in PRIVACY_OF_METHOD.items()}
            for method in trained
            if method in measured
        }
        | {name: PERSONAL_PRIVACY for name in measured if name.endswith(PERSONAL)},
    )
    shown = pd.concat([table[~table["client"].isin(list(hidden))] for table in tables.values()])
    results = assemble(shown, facts)
    table = load_clients(run.clients_table) if run.clients_table.exists() else {}
    refused = hidden | gate.refused([*of_role(table, "client"), *of_role(table, "unseen")])
    results["adapters"] = {name: weights_of(run, name) for name in trained if name in measured}
    return results | ({"left_out": _reasons(refused)} if refused else {})


def gather_report(
    run: RunFolder,
    results: Mapping[str, Any],
    settings: EvaluationSettings,
    configuration: Mapping[str, Any],
    corpus_root: Path,
    required: bool = True,
) -> ReportData:
    """The page's content: videos and contact sheets of held-out clips, curves, clients, what was left out and why.

    People who may not be generated are not shown; `required` is `training.consent.required`.
    """
    shown = {name: run.evaluation(name) for name in results["methods"] if name not in NOT_SHOWN}
    clips = read_evaluation_clips(run, settings, required=required)
    shutil.rmtree(run.report / "videos", ignore_errors=True)  # some may be of people who may no longer be shown
    videos, sheets = showcase(clips, shown, run.report / "videos", said=words_of(run, corpus_root))
    return ReportData(
        results=results,
        videos=videos,
        sheets=sheets,
        charts=_charts(run, results, Gate(run, "generation", required)),
        clients=_clients(run),
        quarantine=counted(load_quarantine(run.quarantine)),
        configuration=configuration,
        seeded_noise=bool(results["privacy"].get("seeded_noise")),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the main packages, and the processor's name."""
    packages = {name: version(name) for name in ("privfedtalk", "torch", "diffusers", "peft", "numpy")}
    return {"python": platform.python_version(), **packages, "processor": _processor()}


def pretrained_parts(run: RunFolder) -> dict[str, str]:
    """Each pretrained network that the run loaded, named by kind and source: its revision and its files' SHA-256."""

    def held(path: Path) -> dict[str, Any]:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    parts = {"autoencoder": [held(run.model("vae") / "config.json")], "speech": [held(run.speech_network)]}
    parts["backbone"] = held(run.model("backbone") / "config.json").get("pretrained", [])

    def hashes(one: Mapping[str, Any]) -> str:
        return f"sha256 {one['sha256'] if isinstance(one['sha256'], str) else ' '.join(one['sha256'])}"

    return {
        f"{name} {one['source']}": " ".join(filter(None, (one.get("revision"), hashes(one))))
        for name, found in parts.items()
        for one in found
        if "source" in one and "sha256" in one
    }


def _charts(run: RunFolder, results: Mapping[str, Any], gate: Gate) -> list[Chart]:
    charts = []
    pretraining = json.loads((run.model("backbone") / CURVE).read_text(encoding="utf-8"))
    losses = {
        "training": [(row["step"], row["training_loss"]) for row in pretraining],
        "validation": [(row["step"], row["validation_loss"]) for row in pretraining],
    }
    charts.append(
        Chart(
            "Pretraining of the backbone",
            "Denoising loss on public speakers; validation on people held out whole.",
            curves(losses, "step", "loss"),
        )
    )
    federated = [method for method in results["methods"] if run.rounds(method).exists()]
    public = {method: public_curve(run, method) for method in federated if has_shared_adapter(method)}
    if public:
        charts.append(
            Chart(
                "Federation, seen from outside",
                "Loss on public people by round, volunteers where there are any: validation that costs no privacy.",
                curves(public, "round", "loss"),
            )
        )
    rows = [row for method in federated for row in (method, personal_of(method))]
    gained = {row: _agreed(gains(run, row), gate) for row in rows if loss_file(run, row).exists()}
    if gained and loss_file(run, BACKBONE).exists():
        charts.append(
            Chart(
                "What each client gained",
                "Fall of the loss on the client's own held-out clips against the frozen backbone, in percent.",
                client_gains(gained, "percent", named=False),
            )
        )
    if run.client_report.exists():
        report = load_client_report(run.client_report)
        charts.append(
            Chart("How large the clients are", "Clips of each client by split.", client_sizes(report, named=False))
        )
        charts.append(
            Chart(
                "How unlike the clients are",
                "Each client beside all: 0 is the same mixture of looks and poses, 1 nothing in common. Dashed is what "
                "clients of these sizes show when clips are dealt at random.",
                client_distances(report, named=False),
            )
        )
    return charts


def _clients(run: RunFolder) -> list[dict[str, Any]]:
    """A row for each participant, without names: on real corpora these are the names of people's folders."""
    rows = []
    for name, client in sorted(load_clients(run.clients_table).items()):
        index = load_index(run.client(name))
        splits = {split: index.splits.get(split, 0) for split in SPLITS}
        rows.append({"role": client.role, **splits, "seconds": round(index.frames / FPS, 1)})
    return rows


def words_of(run: RunFolder, corpus_root: Path) -> dict[str, str]:
    """clip_id -> the spoken words, for every clip whose corpus has a transcript that can be read."""
    sidecars = {clip.clip_id: corpus_root / clip.sidecar for clip in load_manifest(run.manifest) if clip.sidecar}
    return {clip_id: said for clip_id, path in sidecars.items() if (said := spoken_text(path))}


def _instruments(run: RunFolder, name: str) -> dict[str, Any]:
    """The figures of all clips together and what was not measured; empty for runs older than `instruments.json`."""
    path = run.evaluation(name) / INSTRUMENTS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"together": {}, "missing": []}


def _of_another_adapter(run: RunFolder, name: str) -> bool:
    """Whether a method was measured with an adapter that has been replaced since; if so, a line on standard error says
    that its figures are left out."""
    measured, current = _instruments(run, name).get("adapter"), weights_of(run, name.removesuffix(PERSONAL))
    if measured is None or measured == current:  # None: no adapter, or measured before the hash was written down
        return False
    sys.stderr.write(f"{name}: its figures are of an earlier adapter and left out; evaluate it again\n")
    return True


def _agreed(by_client: Mapping[str, float], gate: Gate) -> dict[str, float]:
    """The figures of the clients who may be generated."""
    refused = gate.refused(by_client)
    return {client: value for client, value in by_client.items() if client not in refused}


def _reasons(refused: Mapping[str, str]) -> dict[str, int]:
    """The number of people left out for each kind of reason; without names and dates, because results are passed on."""
    kinds = (re.sub(r" on \d.*", "", reason.rpartition(": ")[2]) for reason in refused.values())
    return dict(sorted(Counter(kinds).items()))


def check_evaluated(run: RunFolder) -> None:
    """Raise PrivFedTalkError where nothing of a run is measured yet; the error names the command to give first."""
    if not any(run.root.glob("evaluation/*/metrics.parquet")):
        raise _nothing_evaluated(run)


def _nothing_evaluated(run: RunFolder) -> PrivFedTalkError:
    for made, missing, first in (
        (run.clients_table, "prepared", "prepare"),
        (run.model("backbone") / "config.json", "trained", "train"),
    ):
        if not made.exists():
            return PrivFedTalkError(
                f"{run.root} is not {missing} yet", f"{command(first, run=run.root)}, then evaluate it"
            )
    return PrivFedTalkError(f"nothing of {run.root} is evaluated yet", command("evaluate", run=run.root))


def _metrics(run: RunFolder, name: str) -> Path:
    return run.metrics(name)


def _processor() -> str:
    """The processor's name, where the system provides it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor()
