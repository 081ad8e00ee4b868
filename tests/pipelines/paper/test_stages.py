"""params.yaml and dvc.yaml describe one thing: what DVC will redo is what depends on what was changed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import networkx
import pytest
import yaml

from common.errors import PrivFedTalkError
from docs.writers import paper as paper_page
from evaluation.catalogue import entries
from pipelines.configuration.reader import read_yaml
from pipelines.configuration.tree import PROJECT
from pipelines.paper import outputs as paper_outputs
from pipelines.paper.settings import PARAMS, configuration_of, people_overrides, read_paper, seed_overrides
from pipelines.paper.stages import STAGES
from tests.test_floors import imports_of
from training.federation.methods import configure


@cache
def index() -> Any:
    """dvc.yaml as DVC resolves it."""
    from dvc.repo import Repo

    with Repo(str(PROJECT)) as repo:
        found = repo.index
        assert found.graph is not None  # drawn while the repository is open
        return found


@cache
def stages() -> dict[str, Any]:
    """Every stage of the tables by name."""
    return {stage.addressing: stage for stage in index().stages if stage.path_in_repo == "dvc.yaml"}


def below(name: str) -> set[str]:
    """The stages that a stage's outputs reach, itself included."""
    return {name} | {stage.addressing for stage in networkx.ancestors(index().graph, stages()[name])}


def read_by(key: str) -> set[str]:
    """The stages that read a parameter."""
    return {
        name
        for name, stage in stages().items()
        for dep in stage.params
        for asked in dep.params
        if key == asked or key.startswith(f"{asked}.")
    }


def test_every_stage_has_its_command_and_its_files() -> None:
    for name, stage in stages().items():
        command = str(stage.cmd).split()
        assert command[:3] == [".venv/bin/python", "-m", "pipelines.paper.stage"] and command[3] in STAGES, name
        if command[3] == "write":
            assert command[4] == name and name in paper_outputs.OUTPUTS
        elif "@" in name:
            assert command[4] == name.split("@")[1]
        for dep in stage.deps:
            path = str(dep)
            assert "data/rendered" in path or "params.yaml" in path or Path(path).exists(), f"{name}: {path}"
    written = {str(stage.cmd).split()[4] for stage in stages().values() if " write " in str(stage.cmd)}
    assert written == set(paper_outputs.OUTPUTS)
    assert set(paper_page.TABLES) <= written


def test_every_parameter_is_read_by_some_stage() -> None:
    """A setting that no stage depends on could be changed and nothing would be redone."""
    asked = {key for stage in stages().values() for dep in stage.params for key in dep.params}

    def leaves(values: Any, prefix: str) -> list[str]:
        if isinstance(values, dict) and values:
            return [leaf for key, value in values.items() for leaf in leaves(value, f"{prefix}.{key}")]
        return [prefix]

    for leaf in leaves(read_yaml(PARAMS)["paper"], "paper"):
        templated = leaf in {"paper.seeds", "paper.methods"} or leaf.startswith("paper.sweeps.")
        assert templated or any(leaf == key or leaf.startswith(f"{key}.") for key in asked), leaf


def test_one_methods_parameter_redoes_what_depends_on_it_and_no_more() -> None:
    readers = read_by("paper.own.fedprox.fedprox.mu")
    assert readers == {"federation@fedprox", "evaluation@fedprox"}
    redone = set().union(*map(below, readers))
    assert {"table1", "figure3", "qualitative", "communication", "published", "clients", "privacy"} <= redone
    assert not {"table2", "participation", "noniid", "privacy_utility", "people"} & redone
    assert {name for name in redone if name.startswith(("federation@", "evaluation@", "references"))} == readers
    ablation = set().union(*map(below, read_by("paper.own.tdc_only")))
    assert "table2" in ablation and "table1" not in ablation


def test_what_all_share_redoes_all_and_what_is_measured_trains_nothing() -> None:
    assert set(stages()) == below("corpus")
    trained = read_by("paper.run.training.pretraining.steps")
    assert {name for name in trained if name.startswith("backbone@")} and "people" not in trained
    measured = set().union(*map(below, read_by("paper.run.evaluation")))
    assert not any(name.startswith(("federation@", "backbone@", "people")) for name in measured)


def test_outputs_are_below_the_paper_folder_and_each_is_one_stages() -> None:
    outs = [str(out) for stage in stages().values() for out in stage.outs]
    assert len(outs) == len(set(outs))
    for out in outs:
        assert "data/rendered/" in out


def test_each_seed_differs_in_what_a_seed_draws_and_nothing_else() -> None:
    paper = read_paper()
    first, second = (configuration_of(paper, seed) for seed in (0, 1))
    assert (first.seed, second.seed) == (0, 1)
    assert first.studio == second.studio and first.preparation.clients == second.preparation.clients
    assert first.training.privacy.seeded_noise == 0 and second.training.privacy.seeded_noise == 1
    noise = {"privacy": first.training.privacy}
    assert second.training.model_copy(update=noise) == first.training
    people = {key: value for key, _, value in (line.partition("=") for line in people_overrides(paper))}
    assert people["run"] == '"people"' and people["seed"] == "0"


def test_every_method_can_run_and_has_a_name() -> None:
    paper = read_paper()
    for method in paper.methods:
        configuration = configuration_of(paper, 2, method)
        assert configuration.root == PROJECT / "data" / "rendered" / "seed2"
        configure(method, configuration.training)
        assert method in entries()
    own = [line for line in seed_overrides(paper, 0, "fedprox") if "fedprox.mu" in line]
    assert own == ["training.fedprox.mu=0.01"]
    assert not any("fedprox.mu" in line for line in seed_overrides(paper, 0, "fedavg"))


def test_settings_of_a_method_that_is_not_trained_are_refused(tmp_path: Path) -> None:
    stray = {"paper": {"methods": ["fedavg"], "own": {"scaffold": {}}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(stray))
    with pytest.raises(PrivFedTalkError, match=r"paper\.own has settings of scaffold"):
        read_paper(tmp_path / "params.yaml")


def test_the_page_shows_the_files_as_they_are(tmp_path: Path) -> None:
    paper = read_paper()
    folder = paper.folder.__class__(tmp_path)
    folder.tables.mkdir()
    for name in paper_page.TABLES:
        (folder.tables / f"{name}.md").write_text(f"| the table {name} |\n")
    (folder.tables / "table1_findings.md").write_text("- no significant difference, says the test\n")
    text = paper_page.page(paper, folder, "two cores")
    assert text.startswith(paper_page.TITLE)
    assert all(f"| the table {name} |" in text for name in paper_page.TABLES)
    assert "- no significant difference, says the test" in text and "Machine: two cores." in text
    assert "10 clients of 7 clips" in text
    assert not re.search(r"/work|/tmp", text)


EVALUATING = {"evaluation", "references", "participate", "deal", "noise"}
"""Stages whose minutes are worth a list of the modules that they use; others read all of `evaluation`."""


def modules_used(path: Path) -> set[Path]:
    """The files of `evaluation` that a file imports, itself included, and what these import."""
    used, waiting = {path}, [path]
    while waiting:
        for name in imports_of(PROJECT / waiting.pop()):
            found = Path(name.replace(".", "/")).with_suffix(".py")
            if found.parts[0] == "evaluation" and (PROJECT / found).exists() and found not in used:
                used.add(found)
                waiting.append(found)
    return used


def test_a_change_of_code_that_a_stage_runs_is_seen() -> None:
    wanted = modules_used(Path("evaluation/measuring/runs.py"))
    sweeping = modules_used(Path("pipelines/paper/sweeps.py")) | wanted
    for name, stage in stages().items():
        kind, deps = name.split("@")[0], {Path(str(dep)) for dep in stage.deps}
        needed = (sweeping if kind in ("participate", "deal", "noise") else wanted) if kind in EVALUATING else set()
        unseen = {path for path in needed if not deps & {path, *path.parents}}
        assert not unseen, f"{name} does not depend on {sorted(map(str, unseen))}"
        if " write " in str(stage.cmd):
            assert Path("evaluation") in deps, name
        elif kind != "corpus":
            assert {Path("preparation"), Path("pipelines/profiles/demo.yaml")} <= deps, name
