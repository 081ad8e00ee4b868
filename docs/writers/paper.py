"""Write docs/results/paper.md from the tables and figures that `dvc repro` made; nothing is run.

    .venv/bin/dvc repro && .venv/bin/python -m docs.writers.paper            (or: make paper)

Tables and sentences are copied from the stages' files; nothing on the page is typed by hand.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from common.files import write_text
from evaluation.experiments.paper.folders import PaperFolder
from pipelines.configuration.tree import Configuration
from pipelines.paper.settings import PaperSettings, configuration_of, read_paper

TITLE = "# The paper's tables, on rendered faces"
TABLES = {
    "table1": "Table 1: main comparison",
    "table2": "Table 2: ablations",
    "communication": "Communication",
    "privacy": "Privacy",
    "privacy_utility": "Privacy against utility",
    "participation": "Participation",
    "noniid": "Clients more or less alike",
    "clients": "Who gains, who loses",
    "published": "The paper's figures beside ours",
}
PICTURES = {
    "table1": ("figure3", "Public validation loss by round, mean over seeds; bands span the seeds"),
    "clients": ("client_gains", "Each client's gain, mean over seeds"),
    "privacy_utility": ("privacy_utility", "Gain, identity and lips against noise"),
    "participation": ("participation", "Gain against clients in a round"),
    "noniid": ("noniid", "Gain against how clips were dealt"),
}
WIDTH = 1100
"""Width of the copied qualitative figure, in pixels."""


def page(paper: PaperSettings, folder: PaperFolder, machine: str) -> str:
    """The page in Markdown."""
    parts = [TITLE, about(paper, configuration_of(paper, paper.seeds[0]), machine)]
    parts += sections(folder, TABLES, PICTURES, "paper")
    parts += ["## Faces", "![Reference, truth and methods on a held-out clip](../images/paper_faces.jpg)"]
    parts.append("![The same mouths, close up](../images/paper_mouths.jpg)")
    return "\n\n".join(parts) + "\n"


def sections(
    folder: PaperFolder, tables: Mapping[str, str], pictures: Mapping[str, tuple[str, str]], prefix: str
) -> list[str]:
    """Each table under its title, with the findings and the figure that belong to it."""
    parts = []
    for name, title in tables.items():
        parts += [f"## {title}", (folder.tables / f"{name}.md").read_text().strip()]
        findings = folder.tables / f"{name}_findings.md"
        if findings.exists():
            parts.append(findings.read_text().strip())
        if name in pictures:
            picture, caption = pictures[name]
            parts.append(f"![{caption}](../images/{prefix}_{picture}.png)")
    return parts


def about(paper: PaperSettings, configuration: Configuration, machine: str) -> str:
    """The page's introduction: people, clips, rounds and seeds, from the configuration."""
    studio, federation = configuration.studio, configuration.training.federation
    people = "the volunteers, public people like the clients" if studio.volunteers else "held-out public speakers"
    measured = {
        "last": "The adapter of the last round is measured.",
        "best": f"The adapter measured is that of the round with the lowest loss on {people}; `local`, which shares "
        "none, has its last.",
    }
    return (
        f"Written by `make paper` from `{paper.data}`, which `dvc repro` makes; nothing here is typed by hand. "
        f"{studio.public_speakers} public speakers, {studio.clients} clients of {studio.client_clips} clips, "
        f"{studio.volunteers} volunteers and {studio.unseen} people who never train, clips of {studio.seconds:g} s at "
        f"{configuration.preparation.crops.size} pixels; {federation.rounds} rounds of {federation.local_steps} steps. "
        f"Seeds {', '.join(map(str, paper.seeds))}: people, clips, autoencoder and rulers are the same for all, what a "
        "seed draws is the backbone's initial weights and batches, the adapter, cohorts, clients' batches, noise, and "
        f"what clips are generated from. Sweeps are of seed {paper.seeds[0]} alone. "
        f"{measured[federation.keep]}" + (f" Machine: {machine}." if machine else "")
    )


def copy_figures(folder: PaperFolder, images: Path, pictures: Mapping[str, tuple[str, str]], prefix: str) -> None:
    for picture, _ in pictures.values():
        shutil.copyfile(folder.figures / f"{picture}.png", images / f"{prefix}_{picture}.png")


def copy_faces(folder: PaperFolder, images: Path) -> None:
    for source, target in (("qualitative_0", "faces"), ("mouths_0", "mouths")):
        with Image.open(folder.figures / "qualitative" / f"{source}.png") as sheet:
            sheet.thumbnail((WIDTH, WIDTH))
            sheet.convert("RGB").save(images / f"paper_{target}.jpg", quality=88)


def asked(description: str | None) -> argparse.Namespace:
    """`out`, the folder of the documents, and `machine`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--machine", default="", help="where it was run, and how long, for the page")
    return parser.parse_args()


if __name__ == "__main__":
    arguments, paper = asked(__doc__), read_paper()
    write_text(arguments.out / "results" / "paper.md", page(paper, paper.folder, arguments.machine))
    (arguments.out / "images").mkdir(exist_ok=True)
    copy_figures(paper.folder, arguments.out / "images", PICTURES, "paper")
    copy_faces(paper.folder, arguments.out / "images")
    print(f"wrote {arguments.out / 'results' / 'paper.md'}")
