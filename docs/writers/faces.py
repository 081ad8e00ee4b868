"""Write docs/results/faces.md from the tables and figures of real people; nothing is run.

    .venv/bin/dvc repro pipelines/paper/faces/dvc.yaml && .venv/bin/python -m docs.writers.faces        (or: make faces)

Figures only: no picture of a real person leaves the folder of its run.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from statistics import fmean

from assets.stage.partitions import REFERENCES
from common.files import write_text
from common.folders import CURVE
from docs.writers.paper import asked, copy_figures, sections
from evaluation.catalogue import columns_for, name_of
from evaluation.experiments.paper.folders import PaperFolder
from evaluation.experiments.paper.rows import over_seeds, pairs_of, read_rows
from evaluation.tables.columns import as_frame, measured, table_rows, to_markdown
from pipelines.paper.settings import REAL, PaperSettings, configuration_of, read_paper
from preparation.clients.roles import load_people

TITLE = "# Real people"
TABLES = {"table1": "Main comparison", "clients": "Who gains, who loses"}
PICTURES = {
    "table1": ("figure3", "Public validation loss by round, mean over seeds; bands span the seeds"),
    "clients": ("client_gains", "Each client's gain, mean over seeds"),
}


def page(paper: PaperSettings, folder: PaperFolder, machine: str) -> str:
    """The page in Markdown."""
    parts = [TITLE, about(paper, folder, machine), *sections(folder, TABLES, PICTURES, "faces")]
    parts += ["## People who never train", *strangers(paper, folder)]
    return "\n\n".join([*parts, "## Pretraining", *pretraining(paper, folder)]) + "\n"


def strangers(paper: PaperSettings, folder: PaperFolder) -> list[str]:
    """A sentence, and the figures of people whom no method has trained on, over all seeds."""
    rows = read_rows(folder, [*paper.methods, *REFERENCES], paper.seeds, role="unseen")
    found = over_seeds(rows, pairs_of(paper.methods))
    methods = found["methods"]
    columns = measured(columns_for(methods, "unseen"), methods)
    lines = [replace(row, method=name_of(row.method)) for row in table_rows(methods, found["comparisons"], columns)]
    said = (
        f"{rows['client'].nunique()} people. Intervals and marks as above; the denoising loss is measured on clients."
    )
    return [said, to_markdown(as_frame(lines, columns)).strip()]


def pretraining(paper: PaperSettings, folder: PaperFolder) -> list[str]:
    """A sentence, and the backbone's losses by step on the public people who teach and on those held out."""
    rows: dict[int, list[dict[str, float]]] = {}
    for seed in paper.seeds:
        for row in json.loads((folder.backbone(seed) / CURVE).read_text(encoding="utf-8")):
            rows.setdefault(row["step"], []).append(row)
    table = ["| step | loss on who teaches | loss on held-out public people |", "|---|---|---|"]
    for step, each in sorted(rows.items()):
        taught, held_out = (fmean(row[f"{name}_loss"] for row in each) for name in ("training", "validation"))
        table.append(f"| {step:,} | {taught:.3f} | {held_out:.3f} |")
    said = (
        "Denoising loss, mean over seeds. Where the last column no longer falls with the one before, more steps or a "
    )
    return [said + "larger network learn the people who teach, and only more people would help.", "\n".join(table)]


def about(paper: PaperSettings, folder: PaperFolder, machine: str) -> str:
    """The page's introduction: people, clips, rounds and seeds, from the run and its configuration."""
    people = load_people(folder.people)
    count = Counter(person.role for person in people.values())
    clips = sum(len(person.clips()) for person in people.values())
    configuration = configuration_of(paper, paper.seeds[0])
    training = configuration.training
    return (
        f"Written by `make faces` from `{paper.data}`; nothing here is typed by hand. {clips} clips of {len(people)} "
        f"real people: {count['public']} public speakers, {count['client']} clients and {count['unseen']} who never "
        f"train, at {configuration.preparation.crops.size} pixels; {training.pretraining.steps} steps of pretraining, "
        f"{training.federation.rounds} rounds of {training.federation.local_steps} steps. Seeds "
        f"{', '.join(map(str, paper.seeds))}: people, autoencoder and rulers are the same for all. Lips are read by "
        "MediaPipe, faces by MobileFaceNet; nobody's face or voice is on this page."
        + (f" Machine: {machine}." if machine else "")
    )


if __name__ == "__main__":
    arguments, paper = asked(__doc__), read_paper(REAL)
    write_text(arguments.out / "results" / "faces.md", page(paper, paper.folder, arguments.machine))
    copy_figures(paper.folder, arguments.out / "images", PICTURES, "faces")
    print(f"wrote {arguments.out / 'results' / 'faces.md'}")
