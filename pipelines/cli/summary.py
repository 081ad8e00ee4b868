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


def show_preparation(root: Path) -> None:
    """How many clips became samples, and why the others did not."""
    from preparation.quarantine import load_quarantine
    from preparation.shards import load_index

    folder = RunFolder(root)
    indices = [load_index(path.parents[1]) for path in sorted(root.glob("clients/*/shards/index.json"))]
    samples, frames = sum(index.samples for index in indices), sum(index.frames for index in indices)
    console.print(f"{samples} samples ({frames / 25:.0f} s) of {len(indices)} people in {root / 'clients'}")
    refused = load_quarantine(folder.quarantine)
    for (step, reason), count in Counter((row.step, row.reason) for row in refused).most_common():
        console.print(f"{count} quarantined by {step}: {reason}", markup=False)
    if refused:
        console.print(f"which, and what mends them: {folder.quarantine}")


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
