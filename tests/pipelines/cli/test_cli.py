"""The command line: help with examples, readable errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from pipelines import runner
from pipelines.cli import app
from pipelines.configuration.tree import Configuration, configure, load, remember
from pipelines.errors import FailedCheckError
from pipelines.jobs import PREPARE, TRAIN
from pipelines.terminal.options import choose

COMMANDS = [
    "demo",
    "studio",
    "prepare",
    "clients",
    "train",
    "evaluate",
    "report",
    "generate",
    "verify",
    "tables",
    "config",
    "privacy plan",
    "privacy report",
    "adapter inspect",
    "adapter export",
    "adapter import",
    "consent show",
    "consent grant",
    "consent revoke",
    "weights list",
    "weights check",
    "weights fetch",
]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "110")
    return CliRunner()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cli: CliRunner, command: str) -> None:
    result = cli.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"privfedtalk {command}" in result.stdout
    assert "Example" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "dagster", "pandas", "cv2", "mediapipe"]
    script = f"import sys, pipelines.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tra", {"train"}),
        ("train --method fed", {"fedavg", "fedprox", "fedadam"}),
        ("plan --profile s", {"small", "sd15"}),
        ("weights fetch face_l", {"face_landmarker"}),
        ("report --js", {"--json"}),
    ],
)
def test_the_shell_completes_names(cli: CliRunner, typed: str, offered: set[str]) -> None:
    line = f"privfedtalk {typed}"
    asked = {"_PRIVFEDTALK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    result = cli.invoke(app, [], prog_name="privfedtalk", env=asked)
    assert set(result.stdout.split()) == offered


def test_completion_can_be_shown() -> None:
    """The shell is the one that typed the command: here a bash, which `exit` keeps from giving way to it."""
    typed = f"{Path(sys.executable).with_name('privfedtalk')} --show-completion; exit $?"
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True)
    assert done.returncode == 0 and "_privfedtalk_completion" in done.stdout


def test_an_unknown_key_names_the_nearest_and_exits_with_2(cli: CliRunner) -> None:
    result = cli.invoke(app, ["config", "--set", "training.federation.round=3"])
    assert result.exit_code == 2
    assert "did you mean 'training.federation.rounds'" in result.stderr
    assert "Traceback" not in result.stderr


def test_config_lists_what_set_takes(cli: CliRunner) -> None:
    result = cli.invoke(app, ["config", "federation.rounds", "--set", "training.federation.rounds=41"])
    assert result.stdout.splitlines() == [
        "training.federation.rounds=41",
        "    rounds of the federation (T)",
        "    default: 6",
    ]


def test_config_fits_a_terminal_of_80_columns(cli: CliRunner) -> None:
    """All but a value, which is never broken, so that it can be copied; every setting is explained."""
    lines = cli.invoke(app, ["config", "--profile", "paper"]).stdout.splitlines()
    explained = [line for line in lines if line.startswith(" ")]
    assert max(map(len, explained)) <= 80
    assert all(below.startswith("    ") for line, below in pairwise(lines) if not line.startswith(" "))
    assert (
        "    in seconds; default: 60.0"
        in cli.invoke(
            app, ["config", "median_seconds", "--set", "training.federation.availability.median_seconds=9"]
        ).stdout.splitlines()
    )


def test_a_backbone_that_is_not_there_is_said_before_any_work(cli: CliRunner, tmp_path: Path) -> None:
    absent = ["training.backbone.kind=sd15", "training.backbone.sd15.source=/nowhere/sd15", f"data={tmp_path}"]
    result = cli.invoke(app, ["train", *(part for setting in absent for part in ("--set", setting))])
    assert result.exit_code == 2
    assert "no folder /nowhere/sd15 for training.backbone.sd15.source" in result.stderr
    assert not any(tmp_path.iterdir())


def test_ctrl_c_says_how_to_go_on(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.runner.run_jobs", interrupt)
    monkeypatch.setattr(sys, "argv", ["privfedtalk", "demo", "mine", "--fresh"])
    result = cli.invoke(app, ["demo", "mine", "--fresh"])
    assert result.exit_code == 130
    assert "privfedtalk demo mine\n" in result.stderr


def test_a_missed_gate_exits_with_1(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def miss(*_: object, **__: object) -> None:
        raise FailedCheckError("lips do not follow", "train longer")

    monkeypatch.setattr("pipelines.runner.run_jobs", miss)
    result = cli.invoke(app, ["train", "mine"])
    assert result.exit_code == 1
    assert "lips do not follow" in result.stderr


def test_an_existing_run_keeps_its_configuration(tmp_path: Path) -> None:
    remember(load("small", [f"data={tmp_path}", "run=mine", "training.adapter.rank=3"]))
    choice = choose(None, str(tmp_path / "mine"), ["training.adapter.alpha=5"])
    adapter = choice.configuration.training.adapter
    assert (adapter.rank, adapter.alpha) == (3, 5.0)
    assert choice.configuration.root == tmp_path / "mine"


def test_weights_are_listed_where_they_are_absent(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    listed = cli.invoke(app, ["weights", "list"], env={"COLUMNS": "250"}).stdout
    assert "absent" in listed
    for source in ("madebyollin/taesd", "download.pytorch.org", "www.robots.ox.ac.uk"):
        assert source in listed
    assert cli.invoke(app, ["weights", "check"]).exit_code == 0
    (tmp_path / "face_landmarker.task").write_bytes(b"not a network")
    assert cli.invoke(app, ["weights", "check"]).exit_code == 2


def test_real_weights_are_intact(cli: CliRunner, monkeypatch: pytest.MonkeyPatch, weights_dir: Path) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(weights_dir))
    result = cli.invoke(app, ["weights", "check"])
    assert result.exit_code == 0
    assert "damaged" not in result.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--part", "lrs3"], "KIND=FOLDER"),
        (["--part", "lrs3=/nowhere"], "two or more corpus.parts"),
        (["--part", "lrs3=/nowhere", "--part", "mix=/nowhere"], "cannot be part of a mix"),
        (["--part", "lrs3=/nowhere", "--part", "hdtf=/nowhere", "--root", "/nowhere"], "no corpus.root"),
    ],
)
def test_parts_of_a_mix_are_checked(cli: CliRunner, tmp_path: Path, options: list[str], said: str) -> None:
    result = cli.invoke(app, ["prepare", str(tmp_path / "run"), "--corpus", "mix", *options])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_command_may_name_its_methods(cli: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[object, object]] = []

    def note(jobs: object, profile: str, overrides: dict[str, object], **_: object) -> None:
        asked.append((jobs, overrides["training.methods"]))

    monkeypatch.setattr("pipelines.runner.run_jobs", note)
    for command in ("train", "evaluate"):
        named = ["--method", "fedavg", "-m", "local", "--set", f"data={tmp_path}"]
        cli.invoke(app, [command, *named])
    assert asked == [(["train"], ["fedavg", "local"]), (["evaluate", "reports"], ["fedavg", "local"])]
    refused = cli.invoke(app, ["evaluate", "--method", "fedsgd", "--set", f"data={tmp_path}"])
    assert refused.exit_code == 2 and "fedsgd" in refused.stderr and len(asked) == 2


def test_a_run_keeps_its_corpus_when_it_is_prepared_again(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without --corpus the run's own was once replaced by the studio's."""
    asked: list[Configuration] = []

    def note(_: object, profile: str, overrides: dict[str, object], **__: object) -> None:
        asked.append(configure(profile, overrides))
        remember(asked[-1])

    monkeypatch.setattr("pipelines.runner.run_jobs", note)
    cli.invoke(app, ["prepare", str(tmp_path / "mine"), "--corpus", "folder", "--root", str(tmp_path)])
    cli.invoke(app, ["prepare", str(tmp_path / "mine"), "--set", "preparation.faces.every=1"])
    assert [one.corpus.kind for one in asked] == ["folder", "folder"]
    assert asked[1].corpus.root == tmp_path


def test_people_without_any_record_are_refused_before_they_are_prepared(cli: CliRunner, tmp_path: Path) -> None:
    done = cli.invoke(app, ["demo", str(tmp_path / "mine"), "--corpus", "folder", "--root", str(tmp_path)])
    assert done.exit_code == 2 and "missing: consent records" in done.stderr and "--consent" in done.stderr
    assert not (tmp_path / "mine").exists()


def test_a_run_does_not_lend_itself_networks(cli: CliRunner, tmp_path: Path) -> None:
    remember(configure("small", {"data": str(tmp_path), "run": "mine"}))
    mine = str(tmp_path / "mine")
    done = cli.invoke(app, ["prepare", mine, "--corpus", "folder", "--root", str(tmp_path), "--public", mine])
    assert done.exit_code == 2 and "the run itself" in done.stderr


def test_the_consent_table_of_a_whole_run_is_recorded_after_preparation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    def note(definition: dg.JobDefinition, *_: object) -> None:
        done.append(definition.name)

    monkeypatch.setattr(runner, "_run", note)
    monkeypatch.setattr("pipelines.resources.check_training", lambda _: done.append("checked"))
    monkeypatch.setattr("preparation.clients.consent.record_from_file", lambda run, table: done.append(table.name))
    overrides = {"data": str(tmp_path), "run": "mine"}
    with dg.DagsterInstance.ephemeral() as instance:
        runner.run_jobs([PREPARE, TRAIN], "small", overrides, instance=instance, consent=tmp_path / "signed.csv")
    assert done[0] == PREPARE and done[-3:] == ["signed.csv", "checked", TRAIN]
