"""Write docs/results/demo.md from the demo's own figures.

    .venv/bin/python -m docs.writers.demo            (or: make results)

Nothing on the page is typed by hand: figures, criteria, seconds and versions come from data/demo/results.json, the
processor from this machine. The picture docs/images/demo.jpg is made from the same run's clips.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.files import write_text
from common.folders import RunFolder
from evaluation.catalogue import shown_in
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.report.gather import NOT_SHOWN
from evaluation.report.showcase import showcase
from evaluation.tables.columns import bounds_of

PRIVACY = ("epsilon_release", "epsilon_server", "delta", "noise_multiplier", "clip_norm", "clients", "rounds")


def page(results: dict[str, Any]) -> str:
    """The whole page in Markdown."""
    parts = [
        "# What the demo measured",
        "Written by `make results` from `data/demo/results.json` after `make demo`; nothing here is typed by hand.",
        f"Machine: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}. "
        f"Seed {results.get('seed', 0)}. Face tracker: {results.get('face_tracker', 'unknown')}. "
        f"Whole run {results['seconds']['total']:.0f} s, at most {results['peak_memory_gb']} GB.",
        "## Acceptance criteria",
        table(
            ["criterion", "value", "bound", "met"],
            [criterion_row(criterion) for criterion in results["bars"]],
        ),
        "Criteria on generated quality are checked on the worst federated method.",
        "## Held-out clips of clients",
        methods_table(results["methods"]),
        "Brackets hold 95 % intervals, from resampling clients and their clips. "
        "Identity, opening and lip figures are read by two small rulers, "
        "networks that the run trained itself on its public speakers. `copy_reference` is a still, `vae_ceiling` the "
        "true video through the autoencoder, `noise` an untrained denoiser.",
        "## People who never trained",
        methods_table(results["methods_unseen"]) if results.get("methods_unseen") else "None in this run.",
        "## Privacy",
        table(["", ""], [[name, number(results["privacy"].get(name))] for name in PRIVACY]),
        str(results["privacy"].get("note", "")),
        "## Communication",
        table(["", ""], [[k, number(v)] for k, v in results["communication"].items() if not isinstance(v, dict)]),
        "## Seconds",
        table(["stage", "seconds"], [[name, f"{value:.0f}"] for name, value in results["seconds"].items()]),
    ]
    return "\n\n".join(parts) + "\n"


def criterion_row(criterion: dict[str, Any]) -> list[str]:
    bound = f"{criterion['direction']} {number(criterion['bar'])}"
    return [criterion["what"], number(criterion["value"]), bound, mark(criterion["pass"])]


def methods_table(methods: dict[str, dict[str, Any]]) -> str:
    """One row a metric, one column a method."""
    titles = {one.key: one.axis for one in shown_in("headline", "document")} | {"n": "n"}
    rows = [
        [title, *(with_interval(values, key) for values in methods.values())]
        for key, title in titles.items()
        if any(values.get(key) is not None for values in methods.values())
    ]
    return table(["", *methods], rows)


def with_interval(values: dict[str, Any], key: str) -> str:
    bounds = bounds_of(values, key)
    ends = [number(bound) for bound in bounds] if bounds else []
    # Gates such as a still have the same value for everybody, so their interval is a point.
    return number(values.get(key)) + (f" [{', '.join(ends)}]" if len(set(ends)) > 1 else "")


def number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mark(passed: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "not measured"}[passed]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def processor() -> str:
    """The processor's name, if the system knows it, else its architecture."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def picture(run: RunFolder, methods: list[str], people: int = 3) -> Image.Image:
    """Contact sheets of a few people, one below the other: reference, truth, and each method's frames."""
    clips = read_evaluation_clips(run)
    firsts = list({clip.client: clip for clip in reversed(clips)}.values())[::-1]
    shown = {name: run.evaluation(name) for name in methods if name not in NOT_SHOWN}
    with tempfile.TemporaryDirectory() as folder:
        _, sheets = showcase(firsts[:: max(1, len(firsts) // people)][:people], shown, Path(folder))
    return Image.fromarray(np.concatenate([sheet.picture for sheet in sheets]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("data/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    measured = json.loads((arguments.run / "results.json").read_text())
    path = arguments.out / "results" / "demo.md"
    write_text(path, page(measured))
    (arguments.out / "images").mkdir(exist_ok=True)
    picture(RunFolder(arguments.run), list(measured["methods"])).save(arguments.out / "images" / "demo.jpg", quality=88)
    print(f"wrote {path} and {arguments.out / 'images' / 'demo.jpg'}")
