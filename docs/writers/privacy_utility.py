"""Write what `dvc repro benchmarks/dvc.yaml` found into docs/results/privacy_utility.md; nothing is run.

    .venv/bin/dvc repro benchmarks/dvc.yaml && .venv/bin/python -m docs.writers.privacy_utility

or `make privacy-utility`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pandas as pd

from common.files import write_text
from evaluation.experiments.study.privacy_utility import markdown, study_settings
from evaluation.tables.columns import read_csv


def page(found: pd.DataFrame) -> str:
    """The page in Markdown."""
    study = study_settings()
    studio, federation = study.studio, study.training.federation
    about = (
        "Written by `make privacy-utility` from `data/privacy_utility/table.csv`, which "
        "`dvc repro benchmarks/dvc.yaml` makes; nothing here is typed by hand. The full method on the study's central "
        f"world, {studio.clients} clients, {federation.rounds} rounds of {federation.local_steps} steps, everybody in "
        "each round, under noise multiplier z and clipping norm C. Loss is held-out, as a difference in percent to the "
        "frozen backbone's; identity is the cosine of generated frames to the reference by the world's own ruler; ± is "
        f"half the 95 % interval over {int(found['people'].max())} people. ε is of these few clients, at "
        f"δ = {found['delta'].iloc[0]:.2g}; *clients for ε ≤ 8* is how many the same training would need with the "
        "same noise on its average."
    )
    picture = "![Figures against noise, a line a clipping norm](../images/privacy_utility.png)"
    return "\n\n".join(["# What privacy costs", about, picture, markdown(found)]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--found", type=Path, default=Path("data/privacy_utility"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    write_text(arguments.out / "results" / "privacy_utility.md", page(read_csv(arguments.found / "table.csv")))
    shutil.copyfile(arguments.found / "plot.png", arguments.out / "images" / "privacy_utility.png")
    print(f"wrote results/privacy_utility.md and images/privacy_utility.png in {arguments.out}")
