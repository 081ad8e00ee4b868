"""`privfedtalk consent`, and what it does to generation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from common.folders import ADAPTER_RECORD, RunFolder
from evaluation.results.card import card_figures
from pipelines.cli import app
from pipelines.configuration.tree import load, remember
from pipelines.terminal.summary import show_consent
from preparation.clients.consent import objection_to
from preparation.clients.roles import Client, load_clients, save_clients
from preparation.media.writing import encode
from tests.preparation.conftest import noise
from tests.training.small_run import SIZE, make_run, voice, write_portrait
from training.adapters.folders import export_adapter, import_adapter
from training.adapters.membership import save_participants


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of real clips, as far as its configuration says, with a trained model."""
    folder = make_run(tmp_path / "mine")
    folder.consent("c0000").unlink()
    splits = {"train": ["c0000/1"], "validation": [], "test": []}
    save_clients({"c0000": Client("client", "c0000", splits)}, folder.clients_table)
    folder.rounds("privfedtalk").write_text(json.dumps({"returned": ["c0000"]}) + "\n")
    save_participants(folder, "privfedtalk", ["c0000"], {})
    real = ["corpus.kind=folder", f"corpus.root={tmp_path}", "training.privacy.seeded_noise=null"]
    crops = [f"preparation.crops.size={SIZE}", "preparation.faces.tracker=truth", "training.generation.steps=1"]
    remember(load("small", [f"data={tmp_path}", "run=mine", *real, *crops]))
    write_portrait(tmp_path / "face.png")
    encode(noise(5), voice(0.2), tmp_path / "voice.mp4")
    return tmp_path


def test_who_has_not_agreed_is_not_generated_and_a_revocation_says_what_it_reaches(run: Path) -> None:
    cli, where = CliRunner(), str(run / "mine")
    files = ["--reference", str(run / "face.png"), "--speech", str(run / "voice.mp4"), "--out", str(run / "talk.mp4")]

    def generate(adapter: str) -> Result:
        return cli.invoke(app, ["generate", where, *files, "--adapter", adapter])

    assert "not recorded" in cli.invoke(app, ["consent", "show", where]).stdout
    refused = generate("c0000")
    assert refused.exit_code == 2 and "c0000 has not agreed to be generated: not recorded" in refused.stderr
    agreed = cli.invoke(app, ["consent", "grant", where, "c0000", "--who", "Ada"])
    assert agreed.exit_code == 0 and "c0000 (Ada) agrees to training and generation" in agreed.stdout
    assert generate("c0000").exit_code == 0
    assert "warning" not in generate("global").stderr
    away = ["adapter", "export", where, "--out", str(run / "out")]
    assert cli.invoke(app, [*away, "--adapter", "c0000"]).exit_code == 0
    assert cli.invoke(app, ["adapter", "import", where, str(run / "out"), "--as", "theirs"]).exit_code == 0
    assert generate("theirs").exit_code == 0

    told = cli.invoke(app, ["consent", "revoke", where, "c0000"])
    assert "contains c0000: federation/privfedtalk/adapter (shared, in 1 of its sums)" in told.stdout
    assert "clients/c0000/methods/privfedtalk/adapter (its own)" in told.stdout
    assert "imported/theirs (its own)" in told.stdout
    assert f"privfedtalk train {where} --method privfedtalk\n" in told.stdout
    assert "revoked on" in generate("c0000").stderr
    refused = generate("theirs")
    assert refused.exit_code == 2 and "theirs is fitted to c0000, who has not agreed" in refused.stderr
    again = cli.invoke(app, ["adapter", "export", where, "--out", str(run / "again"), "--adapter", "theirs"])
    assert again.exit_code == 2 and "revoked on" in again.stderr and not (run / "again").exists()
    assert "still contains c0000, who revoked" in generate("global").stderr
    rows = json.loads(cli.invoke(app, ["consent", "show", where, "--json"]).stdout)
    assert rows["c0000"]["record"]["who"] == "Ada" and rows["c0000"]["record"]["revoked"]
    assert RunFolder(run / "mine").consent("c0000").parent.name == "c0000"


def test_an_imported_adapter_of_an_unknown_client_is_said_to_be_one(run: Path) -> None:
    cli, mine = CliRunner(), RunFolder(run / "mine")
    export_adapter(mine, mine.client_adapter("c0000", "privfedtalk"), run / "out", card_figures)
    record = json.loads((run / "out" / ADAPTER_RECORD).read_text())
    (run / "out" / ADAPTER_RECORD).write_text(json.dumps(record | {"client": "e0001", "method": "local"}))
    import_adapter(mine, run / "out", "theirs")
    files = ["--reference", str(run / "face.png"), "--speech", str(run / "voice.mp4"), "--out", str(run / "talk.mp4")]
    done = cli.invoke(app, ["generate", str(run / "mine"), *files, "--adapter", "theirs", "--json"])
    assert done.exit_code == 0 and "theirs is fitted to e0001, of whose consent this run knows nothing" in done.stderr
    assert json.loads(done.stdout)["method"] == "local"


def test_unknown_clients_and_scopes_are_refused(run: Path) -> None:
    cli, where = CliRunner(), str(run / "mine")
    stranger = cli.invoke(app, ["consent", "revoke", where, "eve"])
    assert stranger.exit_code == 2 and "has no client eve" in stranger.stderr
    assert cli.invoke(app, ["consent", "grant", where, "c0000", "--who", "Ada", "--scope", "sale"]).exit_code == 2


def test_preparation_says_who_sits_out_and_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_consent(run / "mine", required=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "consent: 0 of 1 clients may be trained on" in said and "1 sit out: not recorded" in said
    assert "--consent CSV" in said and "training.consent.required=false" in said
    show_consent(run / "mine", required=False)
    assert capsys.readouterr().out == "consent: 1 of 1 clients may be trained on\n"


def test_everybody_may_say_no_and_is_told_what_shows_them(run: Path) -> None:
    """A public speaker as well as a client; what shows the face is named, and how to remove it."""
    cli, where, mine = CliRunner(), str(run / "mine"), RunFolder(run / "mine")
    table = load_clients(mine.clients_table)
    held_out = {"train": ["p0/1"], "validation": [], "test": []}
    save_clients(table | {"p0": Client("public", "p0", held_out)}, mine.clients_table)
    shown = ["evaluation/privfedtalk/videos/c0000_1.mp4", "evaluation/privfedtalk/videos/c00001_1.mp4",
             "report/index.html", "attacks/inversion/privfedtalk/faces.png"]  # fmt: skip
    for path in shown:
        (mine.root / path).parent.mkdir(parents=True, exist_ok=True)
        (mine.root / path).touch()
    (mine.attack("inversion", "privfedtalk") / "inversion.json").write_text(json.dumps({"clients": ["c0000"]}))
    rows = json.loads(cli.invoke(app, ["consent", "show", where, "--json"]).stdout)
    assert {name: row["role"] for name, row in rows.items()} == {"c0000": "client", "p0": "public"}
    assert rows["p0"]["objections"] == {"training": None, "generation": None}
    granted = cli.invoke(app, ["consent", "grant", where, "p0", "--who", "Pia", "--scope", "training"])
    assert granted.exit_code == 0, granted.stderr
    told = json.loads(cli.invoke(app, ["consent", "revoke", where, "p0", "--json"]).stdout)
    assert told["networks"] == ["models/backbone", "models/vae"] and told["models"] == []
    assert objection_to(mine, "p0", "training", required=False) is not None
    said = cli.invoke(app, ["consent", "revoke", where, "c0000"]).stdout
    named = [line.rpartition(" ")[2] for line in said.splitlines() if "shows c0000: " in line]
    assert named == sorted({*shown} - {"evaluation/privfedtalk/videos/c00001_1.mp4"})
    assert f"privfedtalk prepare {where} --forget, with" in said and all((mine.root / path).exists() for path in shown)


def test_a_client_is_named_however_its_letters_are_composed(tmp_path: Path) -> None:
    own, typed = "bjo\u0308rn", "bj\u00f6rn"
    folder = RunFolder(tmp_path / "mine")
    splits = {"train": [f"{own}/1"], "validation": [], "test": []}
    save_clients({own: Client("client", own, splits)}, folder.clients_table)
    real = ["corpus.kind=folder", f"corpus.root={tmp_path}", "training.privacy.seeded_noise=null"]
    remember(load("small", [f"data={tmp_path}", "run=mine", *real]))
    cli, where = CliRunner(), str(folder.root)
    assert cli.invoke(app, ["consent", "grant", where, typed, "--who", "Björn"]).exit_code == 0
    assert objection_to(folder, own, "training", required=True) is None
    assert cli.invoke(app, ["consent", "revoke", where, typed]).exit_code == 0
    assert objection_to(folder, own, "training", required=False) is not None
    assert [path.name for path in (folder.root / "clients").iterdir()] == [own], "no second person was made"
    assert cli.invoke(app, ["consent", "revoke", where, "bjorn"]).exit_code == 2
