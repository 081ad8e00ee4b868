"""The dry run of a profile: what it says agrees with what a run would do, and it runs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.weights import registry as weights
from pipelines.cli import app
from pipelines.configuration.tree import load, profile_path
from pipelines.plan import LRS3_CLIENTS, Lack, make_plan
from preparation.clients.consent import Consent, now, write_consent
from preparation.clients.roles import Client, save_clients
from training.privacy.accounting.guarantee import epsilons
from training.privacy.accounting.schedule import Schedule
from training.settings import TrainingSettings

SMALLER = [
    "training.backbone.kind=tiny",
    "training.vae.source=small",
    "training.objective.identity.network=none",
    "training.methods=[privfedtalk, fedavg, local, centralized]",
]
"""The paper's profile on networks that every machine has."""


@pytest.fixture(scope="module")
def paper() -> dict:
    return make_plan(load("paper", SMALLER), timed=False).to_json()


def test_the_papers_protocol_is_in_the_plan(paper: dict) -> None:
    assert paper["clients"] == LRS3_CLIENTS and "published" in paper["clients_from"]
    by_name = {one["method"]: one for one in paper["methods"]}
    steps = TrainingSettings().federation.local_steps
    assert by_name["privfedtalk"]["steps"] == by_name["centralized"]["steps"] == 1000 * 10 * steps
    assert paper["adapter_parameters"] == 49_152  # rank 8 on attention: docs/scaling.md
    assert by_name["local"]["bytes_up"] == by_name["centralized"]["bytes_up"] == 0
    assert [name for name, _ in paper["stages"]][:3] == ["corpus", "manifest", "clients"]
    assert ("adapter", "4 partitions") in [tuple(stage) for stage in paper["stages"]]


def test_bytes_are_those_that_messages_have(paper: dict) -> None:
    """A masked parameter has four bytes, and what a client says beside it is small against the vector."""
    by_name, d = {one["method"]: one for one in paper["methods"]}, paper["adapter_parameters"]
    assert 4 * d < by_name["privfedtalk"]["bytes_up"] < 4.1 * d + 20_000
    assert by_name["fedavg"]["bytes_down"] == 4 * d
    one = by_name["privfedtalk"]
    assert one["bytes_total"] == 1000 * 10 * (one["bytes_up"] + one["bytes_down"])


def test_epsilon_is_the_accountants(paper: dict) -> None:
    privacy = load("paper").training.privacy
    schedule = Schedule(LRS3_CLIENTS, 10, 1000, "fixed")
    found = epsilons(privacy, schedule, paper["adapter_parameters"], privacy.target_delta(LRS3_CLIENTS))
    one = next(one for one in paper["methods"] if one["method"] == "privfedtalk")
    assert (one["epsilon_release"], one["epsilon_server"]) == pytest.approx([epsilon.value for epsilon in found])
    assert next(one for one in paper["methods"] if one["method"] == "fedavg")["epsilon_release"] is None


def test_what_is_missing_is_named_with_its_remedy(paper: dict, tmp_path: Path) -> None:
    assert not paper["ready"]
    lack = next(lack for lack in paper["lacks"] if lack["what"].startswith("the corpus"))
    assert lack["fatal"] and "corpus.root" in lack["remedy"]
    (tmp_path / "trainval" / "one").mkdir(parents=True)
    (tmp_path / "trainval" / "two").mkdir()
    fuller = ["corpus.root=" + str(tmp_path), "training.methods=[fedavg]", "training.federation.clients_per_round=2"]
    found = make_plan(load("paper", [*SMALLER, *fuller]), timed=False)
    assert found.clients == 2 and not any(lack.what.startswith("the corpus") for lack in found.lacks)


def consent_lacks(data: Path, *settings: str) -> list[Lack]:
    made = make_plan(load("paper", [*SMALLER, f"data={data}", "training.methods=[fedavg]", *settings]), timed=False)
    return [lack for lack in made.lacks if "consent" in lack.what]


def test_consent_that_the_federation_will_ask_for_is_missing_until_it_is_recorded(tmp_path: Path) -> None:
    (before,) = consent_lacks(tmp_path)
    assert before.fatal and "no client trains" in before.what and "prepare --consent" in before.remedy
    assert consent_lacks(tmp_path, "training.consent.required=false") == []

    run = RunFolder(tmp_path / "paper")
    save_clients({f"c{i}": Client("client", f"c{i}", {}) for i in range(7)}, run.clients_table)
    (silent,) = consent_lacks(tmp_path)
    assert silent.fatal and "7 of 7 clients" in silent.what and silent.what.endswith("and 2 others)")
    assert "c0: not recorded" in silent.what and f"consent grant {run.root} CLIENT --who NAME" in silent.remedy
    for i in range(6):
        write_consent(run, f"c{i}", Consent(who="Ada", granted=now()))
    (one,) = consent_lacks(tmp_path)
    assert not one.fatal and "1 of 7 clients, who will sit out (c6: not recorded)" in one.what
    write_consent(run, "c6", Consent(who="Ben", granted=now(), revoked=now()))
    (gone,) = consent_lacks(tmp_path, "training.consent.required=false")
    assert "c6: revoked on" in gone.what and "required=false" not in gone.remedy


def test_faces_that_nobody_stands_behind_need_no_record() -> None:
    small = ["training.backbone={width: 32, depth: 1}", "preparation.crops.size=64", "training.methods=[fedavg]"]
    found = make_plan(load("demo", small), timed=False)
    assert not any("consent" in lack.what for lack in found.lacks)


@pytest.mark.parametrize("profile", ["paper", "sd15"])
def test_profiles_of_real_corpora_require_consent_and_say_how_it_is_recorded(profile: str) -> None:
    assert load(profile).training.consent.required
    said = profile_path(profile).read_text()
    assert "--consent" in said and "training.consent.required" in said


def test_settings_that_cannot_run_are_told_before_anything_runs() -> None:
    impossible = ["training.adapter.averaging=fedex", "training.methods=[privfedtalk]"]
    found = make_plan(load("paper", [*SMALLER, *impossible]), timed=False)
    assert not found.ready and any("fedex" in lack.what for lack in found.lacks)
    with pytest.raises(PrivFedTalkError, match="--clients"):
        make_plan(load("paper", ["corpus.kind=hdtf", "corpus.root=/nowhere"]), timed=False)


def test_a_step_is_timed_on_this_machine(tmp_path: Path) -> None:
    small = [
        f"data={tmp_path}",
        "training.backbone={width: 32, depth: 1}",
        "preparation.crops.size=64",
        "training.methods=[fedavg]",
    ]
    found = make_plan(load("demo", small))
    assert found.seconds_a_window is not None and 0 < found.seconds_a_window < 30
    federation = load("demo", small).training.federation
    windows = found.methods[0]["steps"] * federation.batch_size
    assert found.hours["fedavg"] == pytest.approx(windows * found.seconds_a_window / 3600)
    assert found.ready


@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        ([], set()),
        (["preparation.faces.tracker=mediapipe"], {"face_landmarker.task, which finds faces"}),
        (
            ["corpus.kind=folder", "corpus.root=/", "training.privacy.seeded_noise=null"],
            {"face_landmarker.task, which finds faces"},
        ),
    ],
)
def test_rendered_faces_need_no_network(
    overrides: list[str], missing: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = make_plan(load("demo", [f"data={tmp_path}", *overrides]), clients=3, timed=False)
    assert {lack.what for lack in found.lacks if lack.fatal and "consent" not in lack.what} == missing


def test_the_command_prints_it_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [word for one in SMALLER for word in ("--set", one)]
    done = CliRunner().invoke(app, ["plan", "--profile", "paper", "--no-time", "--json", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["clients"] == LRS3_CLIENTS
    shown = CliRunner().invoke(app, ["plan", "--no-time", "--clients", "300", *options])
    assert "300 clients (as named)" in shown.stdout and "It cannot run here yet" in shown.stdout
    assert not (load("paper").root / "configuration.yaml").exists()
