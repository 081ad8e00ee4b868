"""`privfedtalk adapter`: inspect, export, import, and talking with what was imported."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from common.folders import ADAPTER_RECORD
from evaluation.results.card import card_figures
from pipelines.cli import app
from pipelines.configuration.tree import load, remember
from tests.training.small_run import make_run
from training.adapters.folders import export_adapter


def test_an_adapter_travels(tmp_path: Path) -> None:
    cli, where = CliRunner(), str(tmp_path / "mine")
    make_run(tmp_path / "mine")
    remember(load("small", [f"data={tmp_path}", "run=mine"]))
    told = json.loads(cli.invoke(app, ["adapter", "inspect", where, "--json"]).stdout)
    assert told["rank"] == 2 and told["privacy"] == "epsilon 3"
    assert told["base_sha256"] in cli.invoke(app, ["adapter", "inspect", where]).stdout.replace("\n", "")

    exported = json.loads(
        cli.invoke(app, ["adapter", "export", where, "--out", str(tmp_path / "out"), "--json"]).stdout
    )
    assert exported == told | {"folder": str(tmp_path / "out")}
    again = json.loads(cli.invoke(app, ["adapter", "inspect", "--folder", str(tmp_path / "out"), "--json"]).stdout)
    assert again == told | {"privacy": "claimed by its maker: epsilon 3"}
    imported = cli.invoke(app, ["adapter", "import", where, str(tmp_path / "out"), "--as", "theirs"])
    assert imported.exit_code == 0 and f"privfedtalk generate {where} --adapter theirs" in imported.stdout
    refused = cli.invoke(app, ["adapter", "import", where, str(tmp_path / "out"), "--as", "theirs"])
    assert refused.exit_code == 2 and "theirs is taken" in refused.stderr
    second = cli.invoke(app, ["adapter", "import", where, str(tmp_path / "out"), "--as", "again", "--json"])
    assert json.loads(second.stdout)["sha256"] == told["sha256"] and json.loads(second.stdout)["adapter"] == "again"


def test_what_a_stranger_wrote_is_printed_as_text(tmp_path: Path) -> None:
    cli, where = CliRunner(), str(tmp_path / "mine")
    run = make_run(tmp_path / "mine")
    remember(load("small", [f"data={tmp_path}", "run=mine"]))
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out", card_figures)
    record = json.loads((tmp_path / "out" / ADAPTER_RECORD).read_text())
    claim = "Private: [bold red]ε = 0.1[/] \x1b[2J\n[link=http://x]see[/link]"
    (tmp_path / "out" / ADAPTER_RECORD).write_text(json.dumps(record | {"privacy": claim}))
    said = "claimed by its maker: Private: [bold red]ε = 0.1[/] [2J [link=http://x]see[/link]"
    printed = cli.invoke(app, ["adapter", "inspect", "--folder", str(tmp_path / "out")])
    assert said in " ".join(printed.stdout.split()) and "\x1b" not in printed.stdout
    imported = cli.invoke(app, ["adapter", "import", where, str(tmp_path / "out"), "--as", "theirs", "--json"])
    assert json.loads(imported.stdout)["privacy"] == said
    (tmp_path / "out" / ADAPTER_RECORD).write_text(json.dumps(record | {"method": claim}))
    refused = cli.invoke(app, ["adapter", "inspect", "--folder", str(tmp_path / "out")])
    assert refused.exit_code == 2 and "method is Private: [bold red]" in refused.stderr and "\x1b" not in refused.stderr


def test_an_adapters_folder_is_no_run_and_its_option_is_named(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "mine"), tmp_path / "my adapter"
    export_adapter(run, run.adapter("privfedtalk"), out, card_figures)
    refused = CliRunner().invoke(app, ["adapter", "inspect", str(out)])
    assert refused.exit_code == 2 and f"privfedtalk adapter inspect --folder '{out}'\n" in refused.stderr
