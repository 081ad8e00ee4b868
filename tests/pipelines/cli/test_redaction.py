"""A secret and people's names, set in a run's configuration, are shown nowhere: not by commands, messages, Dagster, or
anything that is handed around of a run. Only the run's own private files hold them."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from assets.evaluation.reports import shown_configuration
from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.settings import redacted
from evaluation.results.card import card_figures
from pipelines import resources
from pipelines.cli import app
from pipelines.configuration.tree import Configuration, load, read_overrides, remember, remembered
from pipelines.jobs import WHOLE_RUN
from pipelines.paper import settings as paper
from pipelines.runner import run_jobs
from preparation.corpora.studio.corpus import render_corpus
from training.adapters.folders import export_adapter

SECRET, NAME = "quiet-otter-71", "Annabel_Lee"
HIDDEN = (f"training.provenance.watermark_key={SECRET}", f"preparation.clients.volunteers=[{NAME}]")
FAULT = f"training.federation.faults=[{{kind: nan, clients: [{NAME}], probability: 0.5}}]"


def with_hidden(*more: str) -> list[str]:
    return [part for each in (*HIDDEN, FAULT, *more) for part in ("--set", each)]


def assert_absent(text: str) -> None:
    assert SECRET not in text and NAME not in text


def test_settings_are_shown_without_them() -> None:
    configuration = load("small", [*HIDDEN, FAULT])
    assert_absent(json.dumps(configuration.shown()) + json.dumps(configuration.shown(exclude_defaults=True)))
    assert_absent(repr(configuration) + str(configuration))
    assert configuration.shown()["preparation"]["clients"]["volunteers"] == "(1 names)"
    assert load("small").shown() == load("small").model_dump(mode="json")
    assert configuration.fingerprint() != load("small").fingerprint()  # a change of them is a change


def test_the_page_shows_the_configuration_without_them() -> None:
    shown = shown_configuration(resources.open_run(load("small", [*HIDDEN, FAULT]), keep=True))
    assert shown["training"]["provenance"] == {"watermark_key": "(hidden)"}
    assert_absent(json.dumps(shown))


@pytest.mark.parametrize("options", [["config"], ["config", "--json"], ["config", "watermark"], ["plan", "--json"]])
def test_commands_do_not_print_them(options: list[str]) -> None:
    profile = ["--profile", "small"] if options[0] == "config" else ["--profile", "demo", "--clients", "20"]
    # A plan knows no client by name, so that a fault could name one.
    chosen = with_hidden() if options[0] == "config" else [part for each in HIDDEN for part in ("--set", each)]
    result = CliRunner().invoke(app, [*options, *profile, *chosen])
    assert result.exit_code == 0, result.output
    assert_absent(result.output)


@pytest.mark.parametrize(
    "wrong",
    [
        f"training.provenance={{watermark_key: [{SECRET}]}}",
        f"training.provenance={{watermark_key: {{a: {SECRET}}}}}",
        f"training.provenance={{watermark_key: {SECRET}, watermark: maybe}}",
        f"training.provenance={{watermark_key: {SECRET}, strange: 1}}",
        f"training.provenance=[{SECRET}, {{watermark_key: {SECRET}}}]",
        f"training.provenance.watermark_kye={SECRET}",
        f"training.provenance={{watermark_key: '{SECRET}",
        f"preparation.clients.volunteers={NAME}",
        f"preparation.clients.volunteers=[{{a: {NAME}}}]",
        f"training.federation.faults=[{{kind: nan, clients: [{NAME}], probability: 2}}]",
        f"training.federation.faults=[{{kind: none, clients: {NAME}}}]",
    ],
)
def test_messages_do_not_quote_them(wrong: str) -> None:
    result = CliRunner().invoke(app, ["config", *with_hidden(wrong)])
    assert result.exit_code == 2
    assert_absent(result.output)


@pytest.mark.parametrize("typed", [f"[{SECRET}]", f"{{a: {SECRET}}}", f"'{SECRET}"])
def test_a_secret_may_look_like_yaml(typed: str) -> None:
    chosen = with_hidden(f"training.provenance.watermark_key={typed}")
    assert load("small", chosen[1::2]).training.provenance.watermark_key == typed
    result = CliRunner().invoke(app, ["config", *chosen])
    assert result.exit_code == 0
    assert_absent(result.output)


def test_a_run_that_is_refused_as_a_whole_does_not_quote_them() -> None:
    with pytest.raises(PrivFedTalkError) as refused:
        load("small", [*HIDDEN, FAULT, "corpus.kind=lrs3", "corpus.root=x"])  # seeded noise is for rendered people
    assert_absent(str(refused.value))


def test_what_repeats_a_run_is_its_owners_alone(tmp_path: Path) -> None:
    remember(load("small", [f"data={tmp_path}", "run=mine", *HIDDEN]))
    kept = remembered(tmp_path / "mine")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert load(kept).training.provenance.watermark_key == SECRET


def test_parameters_that_dvc_records_may_not_hold_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"set": {"training.provenance.watermark_key": SECRET}}))
    monkeypatch.setattr(resources, "PARAMS", params)
    with pytest.raises(PrivFedTalkError, match=r"sets training\.provenance\.watermark_key") as refused:
        resources.default_run()
    assert_absent(str(refused.value))
    run = {"preparation": {"clients": {"volunteers": [NAME]}}}
    params.write_text(yaml.safe_dump({"paper": {"methods": ["fedavg"], "run": run}}))
    with pytest.raises(PrivFedTalkError, match=r"sets preparation\.clients\.volunteers") as refused:
        paper.read_paper(path=params)
    assert_absent(str(refused.value))
    resources.default_run()


def test_every_field_whose_name_tells_of_a_secret_or_of_people_is_marked() -> None:
    """A new field cannot be forgotten: what is called key, secret, token, password is hidden."""
    telling = ("key", "secret", "token", "password", "passphrase", "credential")
    schema = Configuration.model_json_schema()
    groups = [schema, *schema["$defs"].values()]
    fields = [each for group in groups for each in group.get("properties", {}).items()]
    found = {name: field for name, field in fields if set(name.split("_")) & {*telling}}
    assert found.keys() == {"watermark_key"} and found["watermark_key"]["hidden"] == "secret"
    people = {"volunteers", "people", "speakers", "names", "who", "clients"}
    named = [(name, field) for name, field in fields if name in people and field.get("type") == "array"]
    assert {name for name, _ in named} == {"volunteers", "clients"}
    assert all(field.get("hidden") == "people" for _, field in named)
    assert redacted(Configuration, {"training": {"provenance": {"watermark_key": "x"}}}) != {}


SMALLER = [
    "preparation.faces.tracker=truth",
    "training.vae.steps=5",
    "training.pretraining.steps=4",
    "training.federation.rounds=1",
    "training.methods=[privfedtalk]",
    "training.privacy.seeded_noise=null",
    "training.consent.required=false",
    "corpus.kind=lrs3",
    "workers=1",
    "gates=false",
]


@pytest.mark.slow
def test_a_whole_run_shows_them_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Clips of rendered people, of whom one is a named volunteer; then all that is handed around is read."""
    studio = load("small").studio.model_copy(update={"client_clips": 3, "clients": 2, "public_speakers": 4})
    render_corpus(tmp_path / "corpus", studio, workers=1)
    volunteer = next((tmp_path / "corpus" / "volunteers").iterdir())
    shutil.move(volunteer, tmp_path / "corpus" / "trainval" / NAME)
    shutil.rmtree(tmp_path / "corpus" / "volunteers")
    overrides = [f"data={tmp_path}", "run=mine", f"corpus.root={tmp_path / 'corpus'}", *SMALLER, *HIDDEN]
    (tmp_path / "dagster").mkdir()
    quiet = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), quiet) as instance:
        run_jobs(WHOLE_RUN, "small", read_overrides(overrides), instance=instance)
    run, printed = RunFolder(tmp_path / "mine"), capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "exported", card_figures)

    handed_around = [run.results, run.report, run.root / "models", run.federation("privfedtalk"), tmp_path / "exported"]
    read = [path for place in handed_around for path in (place.rglob("*") if place.is_dir() else [place])]
    assert {"index.html", "results.json", "privacy.json", "README.md", "privfedtalk.json"} <= {
        each.name for each in read
    }
    for path in read:
        assert SECRET not in str(path) and NAME not in str(path)
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes() and NAME.encode() not in path.read_bytes(), path
    holding = {
        path.relative_to(tmp_path).parts[:2]
        for path in tmp_path.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    }
    assert holding == {("mine", "configuration.yaml"), ("mine", "hidden.yaml")}
    assert all(stat.S_IMODE((run.root / name).stat().st_mode) == 0o600 for _, name in holding)
