"""A stage comes after what its asset depends on in Dagster: there is no second list."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from assets.evaluation.inversion import inversion
from assets.evaluation.panel import evaluation
from assets.evaluation.reports import report
from assets.preparation.corpus import clients, corpus, manifest
from assets.preparation.shards import client_report, crops, dealing, shards
from assets.stage.graph import stage_name, stages_before
from assets.stage.run import Run
from assets.stage.stages import read_record, stage
from assets.training.backbone import backbone, rulers, vae
from assets.training.federation import adapter
from common.files import write_text
from common.folders import RunFolder
from common.provenance import project_sources
from evaluation.settings import EvaluationSettings
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, PreparationSettings
from tests.assets.stage_calls import stage_calls
from training.settings import TrainingSettings

FROZEN = ["backbone", "rulers", "vae"]
READS: list[tuple[dg.AssetsDefinition, str, list[str]]] = [
    (corpus, "", []),
    (manifest, "", ["corpus"]),
    (clients, "", ["manifest"]),
    (crops, "", ["clients", "manifest"]),
    (dealing, "", ["clients", "crops", "manifest"]),
    (client_report, "", ["crops", "dealing"]),
    (vae, "", ["crops"]),
    (rulers, "", ["crops"]),
    (shards, "", ["crops", "dealing", "vae"]),
    (backbone, "", ["shards"]),
    (adapter, "fedavg", ["clients", "dealing", "shards", *FROZEN]),
    (evaluation, "fedavg", ["clients", "dealing", "federation/fedavg", "shards", *FROZEN]),
    (evaluation, "noise", ["clients", "dealing", "shards", *FROZEN]),
    (inversion, "fedavg", ["federation/fedavg", "shards", *FROZEN]),
    (report, "", ["client_report", "dealing", "manifest", "results"]),
]
"""What the body of each stage opens, which is what Dagster must know of."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = RunFolder(tmp_path / "run")
    return Run(
        folder=folder, seed=0, corpus_kind=CorpusKind.STUDIO, corpus_root=folder.corpus, studio=StudioSettings(),
        preparation=PreparationSettings(), training=TrainingSettings(), evaluation=EvaluationSettings(), workers=1,
        keep=True,
    )  # fmt: skip


def leave(run: Run, name: str, content: str) -> None:
    output = run.folder.root / "outputs" / name
    with stage(run.folder, name, inputs=[content], outputs=lambda: [output], keep=False):
        write_text(output, content)


def make(run: Run, asset: dg.AssetsDefinition, method: str = "", versions: dict[str, str] | None = None) -> bool:
    """Whether an asset's stage was due."""
    output = run.folder.root / "made.txt"
    work = partial(write_text, output, "made")
    return run.stage(asset, work, settings=[], outputs=lambda: [output], method=method, versions=versions).due


@pytest.mark.parametrize(("asset", "method", "names"), READS)
def test_a_stage_comes_after_what_it_reads(asset: dg.AssetsDefinition, method: str, names: list[str]) -> None:
    assert sorted(name for _, name in stages_before(asset, method)) == sorted(names)


def test_every_stage_is_looked_at() -> None:
    named = {asset.key.path[-1] for asset, _, _ in READS}
    assert named == {call.asset for call in stage_calls()}


@pytest.mark.parametrize(("asset", "method", "names"), [read for read in READS if read[2]])
def test_a_stage_is_due_when_one_that_it_comes_after_left_something_else(
    run: Run, asset: dg.AssetsDefinition, method: str, names: list[str]
) -> None:
    for name in names:
        leave(run, name, "as it was")
    leave(run, "federation/local", "another method's")
    assert make(run, asset, method)
    assert not make(run, asset, method)
    for name in names:
        leave(run, name, "something else")
        assert make(run, asset, method), name
        assert not make(run, asset, method)
    leave(run, "federation/local", "trained anew")
    assert not make(run, asset, method)


def test_of_what_is_read_in_part_the_part_decides(run: Run) -> None:
    leave(run, "crops", "of everybody")
    assert make(run, vae, versions={"crops": "of the public"})
    leave(run, "crops", "of everybody and somebody new")
    assert not make(run, vae, versions={"crops": "of the public"})
    assert make(run, vae, versions={"crops": "of a larger public"})
    with pytest.raises(AssertionError, match="depends on no"):
        make(run, vae, versions={"shards": "of the public"})


def test_other_code_and_another_seed_make_a_stage_due(run: Run) -> None:
    assert make(run, corpus)
    assert make(replace(run, seed=1), corpus)
    assert not make(replace(run, seed=1), corpus)
    written = run.folder.root / "made.txt"
    other = partial(Path.touch, written)
    with pytest.raises(AssertionError, match="no function of a module"):
        run.stage(corpus, other, settings=[], outputs=lambda: [written])


def test_names_of_stages_are_those_of_their_records(run: Run) -> None:
    make(run, adapter, "fedavg")
    made = read_record(run.folder, "federation/fedavg")
    assert made is not None and made.name == stage_name("adapter", "fedavg")
    assert [stage_name(name, "x") for name in ("evaluation", "inversion")] == ["evaluation/x", "attacks/inversion/x"]
    assert stage_name("vae") == "vae"


def test_a_stage_is_called_for_in_the_body_of_its_own_asset() -> None:
    """`run.stage(vae, ...)` stands in `vae`, or in a function that `vae` calls."""
    helpers = {
        "_rendered": "corpus", "_found": "corpus", "cut": "corpus", "mixed": "corpus", "_federate": "adapter",
        "_evaluate": "evaluation",
    }  # fmt: skip
    for call in stage_calls():
        assert helpers.get(call.function, call.function) == call.asset, call
        module, name = call.made_by
        assert name in {getattr(node, "name", "") for node in project_sources().tree(module).body}, call
