"""params.yaml and dvc.yaml describe one thing: what DVC will redo is what depends on what was changed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import networkx
import pytest
import yaml

from assets.stage.code import place_of, used_by
from assets.stage.graph import stages_before
from assets.stage.partitions import REFERENCES
from common.errors import PrivFedTalkError
from common.provenance import FLOORS, code_of, project_sources
from docs.writers import paper as paper_page
from evaluation.catalogue import entries
from evaluation.experiments.driver import make_points
from evaluation.experiments.paper.worlds import DealtWorld
from evaluation.experiments.releases import Released
from pipelines.configuration.reader import read_yaml
from pipelines.configuration.tree import PROJECT
from pipelines.definitions import defs
from pipelines.paper import outputs as paper_outputs
from pipelines.paper import stages as paper_stages
from pipelines.paper.settings import (
    PARAMS,
    REAL,
    RENDERED,
    configuration_of,
    people_overrides,
    read_paper,
    seed_overrides,
)
from pipelines.paper.stages import ASSETS, STAGES, Seeded
from tests.assets.stage_calls import stage_calls
from training.federation.methods import configure


@cache
def index() -> Any:
    """dvc.yaml as DVC resolves it."""
    from dvc.repo import Repo

    with Repo(str(PROJECT)) as repo:
        found = repo.index
        assert found.graph is not None  # drawn while the repository is open
        return found


FILES = {RENDERED: "dvc.yaml", REAL: "pipelines/paper/faces/dvc.yaml"}
PROFILE_FILES = {RENDERED: "pipelines/profiles/demo.yaml", REAL: "pipelines/profiles/faces.yaml"}
of_both = pytest.mark.parametrize("section", FILES)


@cache
def stages(section: str = RENDERED) -> dict[str, Any]:
    """Every stage of a section's tables by name."""
    return {stage.name: stage for stage in index().stages if stage.path_in_repo == FILES[section]}


def folder_of(section: str) -> str:
    return str(read_paper(section).data)


def local(file: Any) -> str:
    """The path of a dependency or output from the project's root."""
    return Path(file.fs_path).relative_to(PROJECT).as_posix()


def below(name: str) -> set[str]:
    """The stages that a stage's outputs reach, itself included."""
    return {name} | {stage.name for stage in networkx.ancestors(index().graph, stages()[name])}


def read_by(key: str) -> set[str]:
    """The stages that read a parameter."""
    return {
        name
        for name, stage in stages().items()
        for dep in stage.params
        for asked in dep.params
        if key == asked or key.startswith(f"{asked}.")
    }


@of_both
def test_every_stage_has_its_command_and_its_files(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for name, stage in stages(section).items():
        command = str(stage.cmd).split()
        assert (command[-2:] == ["--of", section]) == (section != RENDERED), name
        assert command[:3] == [".venv/bin/python", "-m", "pipelines.paper.stage"] and command[3] in STAGES, name
        if command[3] == "write":
            assert command[4] == name and name in paper_outputs.OUTPUTS
        elif command[3] != "references":
            value = name.partition("@")[2]
            assert command[4:5] == ([value] if value else ["--of"] if section != RENDERED else []), name
        for dep in stage.deps:
            path = local(dep)
            elsewhere = path.startswith((folder_of(section), "corpora")) or path == "params.yaml"
            assert elsewhere or Path(path).exists(), f"{name}: {path}"
    written = {str(stage.cmd).split()[4] for stage in stages(section).values() if " write " in str(stage.cmd)}
    assert written <= set(paper_outputs.OUTPUTS)
    if section == RENDERED:
        assert written == set(paper_outputs.OUTPUTS) and set(paper_page.TABLES) <= written


@of_both
def test_every_parameter_is_read_by_some_stage(section: str) -> None:
    """A setting that no stage depends on could be changed and nothing would be redone."""
    asked = {key for stage in stages(section).values() for dep in stage.params for key in dep.params}

    def leaves(values: Any, prefix: str) -> list[str]:
        if isinstance(values, dict) and values:
            return [leaf for key, value in values.items() for leaf in leaves(value, f"{prefix}.{key}")]
        return [prefix]

    for leaf in leaves(read_yaml(PARAMS)[section], section):
        templated = leaf.split(".")[1] in {"seeds", "methods", "sweeps"}
        templated |= leaf == f"{section}.data"  # all outputs are below it
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


@of_both
def test_outputs_are_below_the_paper_folder_and_each_is_one_stages(section: str) -> None:
    outs = [local(out) for stage in stages(section).values() for out in stage.outs]
    assert len(outs) == len(set(outs))
    for out in outs:
        assert out.startswith(f"{folder_of(section)}/")


def test_each_seed_differs_in_what_a_seed_draws_and_nothing_else() -> None:
    paper = read_paper()
    first, second = (configuration_of(paper, seed) for seed in (0, 1))
    assert (first.seed, second.seed) == (0, 1)
    assert first.studio == second.studio and first.preparation.clients == second.preparation.clients
    assert first.training.privacy.seeded_noise == 0 and second.training.privacy.seeded_noise == 1
    noise = {"privacy": first.training.privacy}
    assert second.training.model_copy(update=noise) == first.training
    people = people_overrides(paper)
    assert people["run"] == "people" and people["seed"] == 0


@pytest.mark.parametrize(
    ("stage", "method", "names"),
    [
        ("federation", "fedavg", ["fedavg"]),
        ("federation", "", [*read_paper().methods]),
        ("evaluation", "fedavg", ["fedavg"]),
        ("evaluation", "", [*read_paper().methods, *REFERENCES]),
        ("references", "", [*REFERENCES]),
    ],
)
def test_a_stage_makes_every_seed_of_its_methods(
    stage: str, method: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Seeded] = []
    monkeypatch.setattr(paper_stages, "run_parallel", lambda work, items, cores: made.extend(items))
    paper = read_paper()
    STAGES[stage](paper, method)
    assert [(one.name, one.seed) for one in made] == [(name, seed) for name in names for seed in paper.seeds]


def test_every_method_can_run_and_has_a_name() -> None:
    paper = read_paper()
    for method in paper.methods:
        configuration = configuration_of(paper, 2, method)
        assert configuration.root == PROJECT / "data" / "rendered" / "seed2"
        configure(method, configuration.training)
        assert method in entries()
    assert seed_overrides(paper, 0, "fedprox")["training.fedprox.mu"] == 0.01
    assert "training.fedprox.mu" not in seed_overrides(paper, 0, "fedavg")


def test_settings_of_a_method_that_is_not_trained_are_refused(tmp_path: Path) -> None:
    stray = {"paper": {"methods": ["fedavg"], "own": {"scaffold": {}}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(stray))
    with pytest.raises(PrivFedTalkError, match=r"own has settings of scaffold"):
        read_paper(path=tmp_path / "params.yaml")


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


SWEEPS = {"participate", "deal", "noise"}
OTHER_CORPORA = {
    RENDERED: {"cut_clips", "gather_parts", "write_listing"},
    REAL: {"render", "cut_clips", "gather_parts"},
}
"""What makes other corpora than that of a section's tables."""


def made_by(kind: str, section: str) -> set[tuple[str, str]]:
    """The functions that make what a stage makes: (module, name)."""
    if kind in ASSETS:
        assets = {name for names in ASSETS[kind].values() for name in names}
        return {
            call.made_by
            for call in stage_calls()
            if call.asset in assets and call.made_by[1] not in OTHER_CORPORA[section]
        }
    if kind in SWEEPS:
        return {place_of(made) for made in (make_points, Released, DealtWorld)}
    return {place_of(paper_outputs.OUTPUTS[kind])}


def is_empty(module: ast.Module) -> bool:
    return code_of(module).text == code_of(ast.parse("")).text


@cache
def code_of_kind(kind: str, section: str) -> set[Path]:
    """The files of the code that decides what a stage makes, as the stage of Dagster's asset counts it."""
    sources = project_sources()
    used = [used_by(*place, sources) for place in made_by(kind, section)]
    modules = {module for one in used for module in [*one.modules, *(module for module, _ in one.definitions)]}
    files = {sources.files[module].relative_to(PROJECT) for module in modules if not is_empty(sources.tree(module))}
    if kind in ASSETS:
        return files
    # How a sweep is set up, and what of the floors below a table reads, is not the graph's: a table is made in seconds,
    # and anew with whatever it shows.
    return {path for path in files if kind in SWEEPS or path.parts[0] in {"common", "evaluation"}}


@of_both
def test_a_change_of_code_that_a_stage_runs_is_seen_and_no_other(section: str) -> None:
    for name, stage in stages(section).items():
        kind, deps = name.split("@")[0], {Path(local(dep)) for dep in stage.deps}
        if kind == "page":  # it shows what the other stages made, and is made anew with anything that shows it
            assert Path("evaluation") in deps
            continue
        code = {dep for dep in deps if dep.parts[0] in FLOORS and dep.suffix != ".yaml"}
        unseen = {path for path in code_of_kind(kind, section) if not code & {path, *path.parents}}
        assert not unseen, f"{name} does not depend on {sorted(map(str, unseen))}"
        unused = {dep for dep in code if not any(dep in {path, *path.parents} for path in code_of_kind(kind, section))}
        assert unused <= {Path("pipelines/paper/sweeps.py")}, f"{name} depends on {sorted(map(str, unused))}"
        assert not {dep for dep in code if code & set(dep.parents)}, f"{name} names what is in a folder that it names"
        if kind in SWEEPS:
            assert Path("pipelines/paper/sweeps.py") in deps, name
        if " write " in str(stage.cmd):
            assert Path("evaluation") in deps, name
        elif kind != "corpus":
            assert {Path("preparation"), Path(PROFILE_FILES[section])} <= deps, name


@of_both
def test_stages_come_after_what_their_assets_depend_on(section: str) -> None:
    """The order of dvc.yaml is that of Dagster's dependencies. A stage without a method makes all of them."""
    everything = {"federation": read_paper(section).methods, "evaluation": (*read_paper(section).methods, *REFERENCES)}
    makers = {asset: kind for kind, jobs in ASSETS.items() for names in jobs.values() for asset in names}
    makers["evaluation"] = "evaluation"
    for name in stages(section):
        kind, _, value = name.partition("@")
        if kind == "page":
            shown = ("federation", "evaluation", "references")
            others = {other for other in stages(section) if other.startswith(shown)}
            assert others <= {stage.name for stage in networkx.descendants(index().graph, stages(section)[name])}
            continue
        methods = REFERENCES if kind == "references" else everything.get(kind, ("",))
        methods = (value,) if kind in everything and value else methods
        before = {stage.name for stage in networkx.descendants(index().graph, stages(section)[name])}
        for asset in (asset for names in ASSETS.get(kind, {}).values() for asset in names):
            definition = defs.resolve_assets_def(asset)
            for upstream, made in [pair for method in methods for pair in stages_before(definition, method)]:
                wanted = f"federation@{value}" if value and made.startswith("federation/") else makers[upstream]
                found = {other for other in before if wanted in {other, other.split("@")[0]}}
                assert found or makers[upstream] == kind, f"{name} does not come after {wanted}, which makes {upstream}"
