"""What of the sources makes which stage due: what its function uses, and nothing else."""

from __future__ import annotations

import shutil
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from assets.evaluation.panel import measure
from assets.preparation.gathering import cut_clips, gather_parts
from assets.stage.code import code_version, place_of, used_by
from assets.stage.transient import retried
from common.provenance import FLOORS, SourceTree, project_sources
from tests.assets.stage_calls import stage_calls
from tests.test_floors import ROOT

MAKES = {call.made_by[1]: call.made_by for call in stage_calls()}
TRAINING = {"train_autoencoder", "train_rulers", "pretrain_backbone", "federate_method"}
SECONDS = 1.0
"""Of a process, for the versions of all stages: 0.25 s here when nobody else is at work."""


@cache
def versions(sources: SourceTree) -> dict[str, str]:
    """The code version of every stage, by the function that makes it."""
    return {name: used_by(*place, sources).version(sources) for name, place in MAKES.items()}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's floors, where they may be changed for a moment."""
    root = tmp_path_factory.mktemp("copied")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, root / floor, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def due(root: Path, file: str, old: str, new: str) -> set[str]:
    """The functions whose stages are due while one place of a file is changed."""
    text = (root / file).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    (root / file).write_text(text.replace(old, new), encoding="utf-8")
    before, after = versions(project_sources()), versions(SourceTree(root))
    (root / file).write_text(text, encoding="utf-8")
    return {name for name in MAKES if before[name] != after[name]}


def test_every_stage_has_a_version_of_its_own_in_a_moment() -> None:
    started = time.process_time()
    found = versions(SourceTree(ROOT))
    assert time.process_time() - started < SECONDS
    assert len(set(found.values())) == len(found)
    assert {"render", "list_clips", "assign_roles", "crop_faces", "write_shards", "measure", "write_page"} < set(found)
    assert set(found) > TRAINING


def test_comments_and_docstrings_train_nothing(copied: Path) -> None:
    cards = "training/adapters/cards.py"
    assert not due(
        copied, cards, "from __future__ import annotations\n", "# A card.\nfrom __future__ import annotations\n"
    )
    docstring = (copied / cards).read_text(encoding="utf-8").split('"""')[1]
    assert not due(copied, cards, docstring, f"{docstring} Another sentence.")


def test_a_changed_function_makes_due_what_runs_it(copied: Path) -> None:
    changed = due(copied, "training/learning/pretraining.py", "\ndef pretrain(", "\nSTEP = 2\n\n\ndef pretrain(")
    assert "pretrain_backbone" in changed
    assert not changed & {"render", "list_clips", "assign_roles", "crop_faces", "write_shards", "train_autoencoder"}


@pytest.mark.slow(minutes=0.1)
def test_how_a_stage_is_shown_does_not_decide_it(copied: Path) -> None:
    assert not due(copied, "assets/stage/metadata.py", "LARGEST_TABLE = 200", "LARGEST_TABLE = 100") & TRAINING
    assert (
        not due(copied, "evaluation/figures/rounds.py", "\ndef round_curves(", "\nA = 1\n\n\ndef round_curves(")
        & TRAINING
    )
    assert not due(copied, "assets/training/backbone.py", "def _points(rows", "def _points(lines")


@pytest.mark.slow(minutes=0.1)
def test_stages_made_in_one_file_do_not_share_their_code(copied: Path) -> None:
    backbone = "assets/training/backbone.py"
    assert due(copied, backbone, "An autoencoder that turns", "A network that turns") == {"train_autoencoder"}
    assert due(copied, "assets/preparation/samples.py", '"coded_faces.png"', '"faces.png"') == {"train_autoencoder"}
    assert due(copied, "preparation/corpora/hdtf/cut.py", "\ndef cut_corpus(", "\nA = 1\n\n\ndef cut_corpus(") == {
        "cut_clips",
        "gather_parts",
    }


def test_the_pages_template_decides_the_page(copied: Path) -> None:
    assert due(copied, "evaluation/report/template.html", "</head>", "</head> ") == {"write_page"}
    style = (copied / "evaluation/report/style.css").read_text(encoding="utf-8")
    assert due(copied, "evaluation/report/style.css", style, f"{style}\np {{ color: red }}\n") == {"write_page"}


def test_what_is_imported_late_is_seen() -> None:
    crops = used_by(*MAKES["crop_faces"], project_sources()).modules
    assert {"preparation.faces.fan_tracker", "preparation.faces.mediapipe_tracker", "preparation.crops.crop"} <= crops
    backbone = used_by(*MAKES["pretrain_backbone"], project_sources()).modules
    assert {"training.learning.pretraining", "training.model.backbones.sd15"} <= backbone
    assert not any(name.startswith(("training.federation", "training.privacy", "evaluation")) for name in backbone)


def test_a_function_is_known_through_what_is_put_around_it() -> None:
    nowhere: Any = None  # stands for a run: nothing is called
    assert place_of(partial(partial(measure, nowhere), "fedavg")) == ("assets.evaluation.panel", "measure")
    assert place_of(retried(measure)) == ("assets.evaluation.panel", "measure")
    assert code_version(partial(cut_clips, nowhere)) == code_version(cut_clips) != code_version(gather_parts)
    with pytest.raises(AssertionError, match="no function of a module"):
        place_of(lambda: None)
