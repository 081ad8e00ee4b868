"""Writes the paper's tables over all seeds; every figure is read from the stages' files, nothing is typed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.files import write_text
from evaluation.catalogue import BACKBONE, GATES, name_of
from evaluation.experiments.paper.folders import PaperFolder
from evaluation.experiments.paper.rows import over_seeds, pairs_of, read_missing, read_rows, read_together
from evaluation.report.files import NO_DIFFERENCE, write_table
from evaluation.report.words import findings
from evaluation.results.gates import concessions, failures, judge_gates
from evaluation.results.run_files import gains, read_losses, read_privacy, traffic
from evaluation.tables import paper as paper_tables
from evaluation.tables.columns import MISSING
from evaluation.tables.published import WHY_NOT

REFERENCES = (BACKBONE, *GATES)


def chosen(trained: Sequence[str], table: Sequence[str]) -> list[str]:
    """The methods of a table that were trained, in the table's order."""
    return [name for name in table if name in trained]


def compared(paper: PaperFolder, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Figures and comparisons of methods and references over all seeds, in the format of results.json."""
    names = [*methods, *REFERENCES]
    results = over_seeds(read_rows(paper, names, seeds), pairs_of(methods))
    for name, figures in read_together(paper, names, seeds).items():
        results["methods"][name] |= figures
    return results


def write_comparison(
    paper: PaperFolder, name: str, methods: Sequence[str], seeds: Sequence[int], table: Sequence[str]
) -> list[Path]:
    """Write table 1 or 2: figures, sentences about differences and missing metrics, tests, and metrics for DVC."""
    results = compared(paper, methods, seeds)
    missing = read_missing(paper, methods[0], seeds[0])
    lines = findings(results["comparisons"]) or [NO_DIFFERENCE]
    lines += [f"{line}." for line in failures(judge_gates(results["methods"]))] or [ALL_GATES]
    lines += concessions(results["methods"])
    lines += [f"Not measured: {', '.join(one['metrics'])} ({one['reason']}; {one['remedy']})." for one in missing]
    return [
        *write_table(paper.tables / name, paper_tables.comparison(results, table), _unit(results)),
        write_text(paper.tables / f"{name}_findings.md", "".join(f"- {line}\n" for line in lines)),
        write_text(paper.tables / f"{name}_metrics.json", paper_tables.to_json(paper_tables.facts_of(results))),
        *write_table(paper.tables / f"{name}_tests", tests_of(results["comparisons"]), TESTS),
    ]


ALL_GATES = "Every model beats noise on everything that was measured, and a still picture on how the lips move."
TESTS = "p is from sign flips of whole clients; p (Holm) is adjusted over the rows of a metric."


def tests_of(comparisons: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table of every comparison with its p, so that readers can check the marks of significance."""
    return pd.DataFrame(
        [
            {
                "Metric": one["metric"],
                "Method": name_of(one["method"]),
                "Against": name_of(one["baseline"]),
                "Difference": _figure(one["difference"]),
                "SE": _figure(one["standard_error"]),
                "Higher on": f"{one['clients_higher']} of {one['clients']} clients",
                "Seeds with its sign": f"{one['seeds_agreeing']} of {one['seeds']}",
                "p": _figure(one["p"]),
                "p (Holm)": _figure(one["p_holm"]),
            }
            for one in comparisons
        ]
    )


def write_communication(paper: PaperFolder, methods: Sequence[str], seed: int) -> list[Path]:
    """Write the bytes of one seed: they follow from the protocol, and only the best round differs between seeds."""
    run = paper.seed(seed)
    results = {"communication": {"methods": {method: traffic(run, method) for method in methods}}}
    note = f"Measured under seed {seed}; the best round is that of the lowest public validation loss."
    return write_table(paper.tables / "communication", paper_tables.communication(run, results), note)


def write_privacy(paper: PaperFolder, methods: Sequence[str], seed: int) -> list[Path]:
    """Write the privacy that each method may claim, from its privacy report."""
    rows = []
    for method in methods:
        report = read_privacy(paper.seed(seed), method)
        population = report["meaningful_population"]
        rows.append(
            {
                "Method": name_of(method),
                "z": _figure(report["noise_multiplier"]) if report["epsilon_release"] is not None else MISSING,
                "C": _figure(report["clip_norm"]) if report["epsilon_release"] is not None else MISSING,
                "ε released": _figure(report["epsilon_release"]),
                "ε server": _figure(report["epsilon_server"]),
                "δ": _figure(report["delta"]) if report["epsilon_release"] is not None else MISSING,
                "Clients for ε ≤ 8": f"{population['clients']:,}" if population else MISSING,
                "Verdict": report["mark"],
            }
        )
    note = "A dash under ε: no finite one holds. z is noise over sensitivity, C the clipping norm."
    return write_table(paper.tables / "privacy", pd.DataFrame(rows), note)


def write_clients(paper: PaperFolder, methods: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """Write who gains and who loses: each client's held-out loss, and its fall against the seed's frozen backbone's."""
    rows = []
    for method in methods:
        of_seeds = [gains(paper.seed(seed), method) for seed in seeds]
        losses = [read_losses(paper.seed(seed), method) for seed in seeds]
        for client in sorted(of_seeds[0]):
            gained = np.array([one[client] for one in of_seeds])
            rows.append(
                {
                    "Method": name_of(method),
                    "Client": client,
                    "Loss": f"{np.mean([one[client] for one in losses]):.5f}",
                    "Gain (%)": f"{gained.mean():.2f}",
                    "Least": f"{gained.min():.2f}",
                    "Most": f"{gained.max():.2f}",
                    "Gains in": f"{int((gained > 0).sum())} of {len(seeds)}",
                }
            )
    note = "Gain is the fall of the held-out loss to the frozen backbone's; least and most are of the seeds."
    return write_table(paper.tables / "clients", pd.DataFrame(rows), note)


def write_published(paper: PaperFolder, methods: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """Write the published figures beside those of all seeds."""
    results = compared(paper, methods, seeds) | {"corpus": {"kind": "rendered"}}
    return write_table(paper.tables / "published", paper_tables.beside_published(results), WHY_NOT)


def _unit(results: Mapping[str, Any]) -> str:
    clients = max(row["clients"] for row in results["methods"].values())
    seeds = max(row["seeds"] for row in results["methods"].values())
    return (
        f"The unit is the client: {clients} clients, each the mean over its clips and {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}. Brackets hold 95 % intervals of the mean, from resampling "
        "clients, seeds and each client's clips; * differs significantly from the "
        "frozen backbone (paired permutation test over clients, Holm within the metric, p < 0.05). n counts clips "
        "times seeds. KID, FID and FVD are of all clips together: no test, and their interval is a "
        "jackknife's over clients."
    )


def _figure(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"
