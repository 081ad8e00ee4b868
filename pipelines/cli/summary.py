"""What a command says at its end: the few figures that matter, and where the rest is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from pipelines.cli.shared import console
from preparation.folders import RunFolder

SHOWN = {
    "lip_correlation": ("lip correlation", 3),
    "opening_error": ("opening error", 3),
    "mouth_psnr": ("mouth PSNR", 2),
    "psnr": ("PSNR", 2),
    "identity": ("identity", 3),
    "validation_loss": ("validation loss", 4),
}

MOST_LINES = 10


def show_results(root: Path) -> None:
    """The headline table, the bars that are missed, ε, time and memory, and the page to open."""
    from evaluation.results import read_results

    folder = RunFolder(root)
    if not folder.results.exists():
        return
    results = read_results(folder.results)
    table = Table("method", *(label for label, _ in SHOWN.values()), title="held-out clips of clients")
    for method, values in results["methods"].items():
        mark = "" if values.get("private", True) else " [yellow](not private)[/yellow]"
        table.add_row(method + mark, *(_figure(values.get(name), digits) for name, (_, digits) in SHOWN.items()))
    console.print(table)
    _show_bars(results["bars"])
    privacy = results["privacy"]
    if "epsilon_release" in privacy:
        epsilon = _figure(privacy["epsilon_release"], 2)
        console.print(f"ε of the released model {epsilon} at δ = {privacy.get('delta')}; {privacy.get('mark', '')}")
    minutes = results["seconds"]["total"] / 60
    console.print(f"{minutes:.1f} minutes, at most {results['peak_memory_gb']} GB of memory")
    console.print(f"Open [bold]{folder.root / results['report']}[/bold]")


def show_preparation(root: Path, identities: bool = False) -> None:
    """How many clips became samples, why the others did not, and with `identities` whom the faces show."""
    from preparation.quarantine import load_quarantine
    from preparation.shards import load_index

    folder = RunFolder(root)
    indices = [load_index(path.parents[1]) for path in sorted(root.glob("clients/*/shards/index.json"))]
    samples, frames = sum(index.samples for index in indices), sum(index.frames for index in indices)
    console.print(f"{samples} samples ({frames / 25:.0f} s) of {len(indices)} people in {root / 'clients'}")
    refused = load_quarantine(folder.quarantine)
    alike = Counter((row.step, row.reason, row.remedy) for row in refused)
    first = {(row.step, row.reason, row.remedy): row.file for row in reversed(refused)}
    for (step, reason, remedy), count in alike.most_common():
        files = repr(first[step, reason, remedy]) + (" and others" if count > 1 else "")
        console.print(f"{count} quarantined by {step}: {reason} ({files}); {remedy}", markup=False)
    if refused:
        console.print(f"all of them: {folder.quarantine}", markup=False)
    if identities and folder.identities.exists():
        _show_identities(folder.identities)


def show_consent(root: Path, required: bool) -> None:
    """How many clients may be trained on, and what is to be done about the others."""
    from preparation.clients import load_clients, of_role
    from preparation.consent import objections

    folder = RunFolder(root)
    clients = of_role(load_clients(folder.clients_table), "client")
    refused = objections(folder, clients, "training", required)
    console.print(f"consent: {len(clients) - len(refused)} of {len(clients)} clients may be trained on")
    for reason, count in Counter(refused.values()).most_common():
        console.print(f"  {count} sit out: {reason}")
    if "not recorded" in refused.values():
        console.print(
            "  record what they agreed to (--consent CSV, privfedtalk consent grant); where something else covers the "
            "corpus, such as a research licence: train with --set training.consent.required=false",
            markup=False,
        )


def _show_identities(path: Path) -> None:
    """Folders that hold another's clips and pairs of folders of one person, for the user to judge: nothing was left
    out because of them."""
    from preparation.identity import load_report

    report = load_report(path)
    console.print(report.summary(), markup=False)
    strangers = Counter(mismatch.client for mismatch in report.mismatches)
    lines = [f"  {client}: {count} clips of another face" for client, count in strangers.most_common()]
    lines += [f"  {pair.first} and {pair.second}: one person (cosine {pair.cosine:.2f})" for pair in report.same_person]
    for line in lines[:MOST_LINES]:
        console.print(line, markup=False)
    if lines:
        console.print(f"all of them, none was left out: {path}", markup=False)


def _show_bars(bars: list[dict[str, Any]]) -> None:
    met = sum(bar["pass"] is True for bar in bars)
    console.print(f"{met} of {len(bars)} bars met")
    for bar in bars:
        if bar["pass"] is not True:
            wanted = f"{bar['direction']} {bar['bar']}"
            value = "not measured" if bar["value"] is None else _figure(bar["value"], 3)
            console.print(f"  [yellow]{bar['name']}[/yellow]: {value}, wanted {wanted} ({bar['what']})")


def _figure(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
