"""Writes tables and figures of a run: CSV, Markdown and LaTeX; PNG and SVG; side-by-side videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from common.files import replacing, write_text
from common.folders import RunFolder
from common.text.foreign import printable
from evaluation.catalogue import has_shared_adapter, models_in, name_of
from evaluation.figures.charts import client_gains, contact_sheet, curves, save
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.measuring.protocol import video_path
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.fidelity import cut
from evaluation.report.showcase import generated_frames, showcase
from evaluation.report.words import findings
from evaluation.results.document import read_results
from evaluation.results.run_files import gains, public_curve
from evaluation.settings import EvaluationSettings
from evaluation.tables import paper as paper_tables
from evaluation.tables.columns import to_csv, to_latex, to_markdown
from evaluation.tables.published import WHY_NOT
from preparation.faces.landmarks import mouth_box
from preparation.quarantine import write_parquet

NOTE = (
    "Brackets hold 95 % intervals of the mean, from resampling clients and each client's clips; "
    "* differs significantly from the frozen backbone (paired permutation test "
    "over clients, Holm within the metric, p < 0.05). KID, FID and FVD are of "
    "all clips together: no test, and their interval is a jackknife's over clients."
)
NO_DIFFERENCE = "No significant difference between any two methods in any metric that was tested."


def write_tables(run: RunFolder, out: Path) -> list[Path]:
    """Write every table and the sentences about differences into `out`; returns the files, in order."""
    results = read_results(run.results)
    methods = list(results["methods"])
    sentences = findings(results["comparisons"])
    tables = {
        "table1": (paper_tables.comparison(results, models_in("main")), NOTE),
        "table2": (paper_tables.comparison(results, models_in("ablations")), NOTE),
        "communication": (paper_tables.communication(run, results), ""),
        "clients": (paper_tables.per_client(run, methods), "Gain is the fall of the held-out loss."),
        "published": (paper_tables.beside_published(results), WHY_NOT),
    }
    files = [path for name, (table, note) in tables.items() for path in write_table(out / name, table, note)]
    write_parquet(paper_tables.per_clip(run, methods), out / "per_clip.parquet")
    files += [
        out / "per_clip.parquet",
        write_text(out / "metrics.json", paper_tables.to_json(paper_tables.facts_of(results))),
        write_text(out / "findings.md", "".join(f"- {line}\n" for line in sentences) or NO_DIFFERENCE + "\n"),
    ]
    return files


def write_figures(run: RunFolder, out: Path, settings: EvaluationSettings, not_shown: Sequence[str] = ()) -> list[Path]:
    """Write Figure 3, gains by client, grids of frames, mouth close-ups and side-by-side videos; returns the files.

    Methods in `not_shown` are left out of grids and videos.
    """
    results = read_results(run.results)
    federated = [name for name in results["methods"] if run.rounds(name).exists()]
    charts = {}
    public = {name: public_curve(run, name) for name in federated if has_shared_adapter(name)}
    if public:
        charts["figure3_validation"] = curves(public, "round", "public validation loss")
    gained = {name: found for name in federated if (found := gains(run, name))}
    if gained:
        charts["client_gains"] = client_gains(gained, "fall of the held-out loss, percent")
    files = [out / f"{name}.{kind}" for name in charts for kind in ("png", "svg")]
    for path in files:
        save(charts[path.stem], path)
    shown = [name for name in results["methods"] if name not in not_shown]
    return files + write_qualitative(run, out, settings, shown)


def write_qualitative(
    run: RunFolder, out: Path, settings: EvaluationSettings, names: Sequence[str], sheets: int = 4
) -> list[Path]:
    """Write grids of reference, truth and methods, close-ups of their mouths, and side-by-side videos with sound.

    Only clips that every method has a video of are shown, the first `sheets` of them also as grids and close-ups.
    Returns the files.
    """
    shown = {name: run.evaluation(name) for name in names}
    clips = read_evaluation_clips(run, settings)
    cards, pictures = showcase(clips, shown, out / "videos", sheets=sheets)
    files = []
    for number, sheet in enumerate(pictures):
        files.append(out / f"qualitative_{number}.png")
        with replacing(files[-1]) as partial:
            Image.fromarray(sheet.picture).save(partial, format="PNG")
    mouths = [clip for clip in clips if all(video_path(folder, clip.clip_id).exists() for folder in shown.values())]
    for number, clip in enumerate(mouths[: len(pictures)]):
        files.append(out / f"mouths_{number}.png")
        with replacing(files[-1]) as partial:
            Image.fromarray(_mouths(clip, shown)).save(partial, format="PNG")
    return files + [card.path for card in cards]


def _mouths(clip: EvaluationClip, shown: Mapping[str, Path]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A contact sheet of the box around the true mouth: truth and methods, at eight moments."""
    box = mouth_box(clip.landmarks, clip.frames.shape[1])
    made = [(name_of(name), generated_frames(video_path(folder, clip.clip_id), clip)) for name, folder in shown.items()]
    return contact_sheet([(label, cut(frames, box)) for label, frames in [(name_of("truth"), clip.frames), *made]])


def write_table(stem: Path, table: pd.DataFrame, note: str) -> list[Path]:
    """Write a table as `stem` with the endings .csv, .md and .tex, the latter two with the note; returns the files."""
    notes = {"md": f"\n{note}\n" if note else "", "tex": f"% {printable(note, 2000)}\n" if note else "", "csv": ""}
    writers = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    return [write_text(stem.with_suffix(f".{kind}"), write(table) + notes[kind]) for kind, write in writers.items()]
