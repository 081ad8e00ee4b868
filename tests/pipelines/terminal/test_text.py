"""What stands in a terminal: text of people as text, in any encoding; nothing that libraries say by themselves."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table
from typer.testing import CliRunner

from common.folders import RunFolder
from common.progress import Meter
from pipelines.cli import app
from pipelines.terminal import text as terminal
from pipelines.terminal.text import PlainConsole, replace_what_cannot_be_shown, styled
from preparation.clients.consent import Consent, now, write_consent
from preparation.clients.roles import Client, save_clients
from preparation.quarantine import QuarantineRow, save_quarantine
from preparation.shards.store import Sample, write_shards

NAMES = [
    "Ada [/form]",
    "[hd]_anna",
    "[bold]x",
    "[link=http://x]y[/link]",
    ":smile:",
    "\\[x]",
    "[@click=f]z",
    "[]",
    "[/]",
]
HOSTILE = "a\x1b[2Jb\u202ec\u2066d\x07e\rf\x9bg"


def printed(*what: object) -> str:
    file = io.StringIO()
    console = PlainConsole(file=file, markup=False, emoji=False, highlight=False, soft_wrap=True, width=200)
    console.print(*what)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_markup(name: str) -> None:
    table = Table(name, title=f"of {name}", caption=name)
    table.add_row(name)
    for shown in (printed(name), printed(table), printed(styled("x ", (name, "bold")))):
        assert name in shown
    assert printed(table).count(name) == 4


def test_nothing_moves_the_cursor_or_turns_the_text() -> None:
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    for shown in (printed(HOSTILE), printed(table), printed(styled((HOSTILE, "red")))):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
        assert "a [2Jb c d e f g" in shown


def test_every_console_of_the_commands_is_a_plain_one() -> None:
    """Commands print through these two alone: another console would take names for markup again."""
    assert all(isinstance(one, PlainConsole) for one in (terminal.console, terminal.aside))
    assert printed_by(terminal.console, "[bold]x :smile:") == printed_by(terminal.aside, "[bold]x :smile:")
    for path in Path(terminal.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "terminal.py":
            assert not re.search(
                r"\bConsole\(|\bprint\(f?[\"']|markup=True|from_markup|secho", text.replace(".print(", "")
            ), path
        # Markup stands in the help texts alone, which are the project's own.
        code = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
        assert not re.search(r"\[/?(bold|red|yellow|green|/)\]|\[/\]", code), path


def printed_by(console: PlainConsole, text: str) -> str:
    with console.capture() as captured:
        console.print(text)
    return captured.get()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A prepared run in which everything that people named is named badly."""
    run = RunFolder(tmp_path_factory.mktemp("data") / "[hd] run ε")
    save_clients(
        {name: Client("client", name, {"train": [f"{name}/1"], "validation": [], "test": []}) for name in CLIENTS},
        run.clients_table,
    )
    for name in CLIENTS:
        write_consent(run, name, Consent(who=f"Ada [/form] {HOSTILE} ε", granted=now()))
    sample = Sample(
        key="1", client=CLIENTS[0], clip_id=f"{CLIENTS[0]}/1", split="train", latents=np.zeros((8, 4, 2, 2), "f2"),
        speech=np.zeros((8, 4, 3), "f2"), reference_latent=np.zeros((4, 2, 2), "f2"),
        reference=np.zeros((16, 16, 3), "u1"), landmarks=np.zeros((8, 68, 2), "f4"),
    )  # fmt: skip
    write_shards(run.client(CLIENTS[0]), [sample])
    save_quarantine([QuarantineRow("[/x] ε.mp4", "crops", "[/reason] ε", "[/remedy]")], run.quarantine)
    return run


CLIENTS = ("[hd]_anna", "[x]_:smile:", "Zoë_ε")
COMMANDS = [
    ["clients", "RUN"],
    ["consent", "show", "RUN"],
    ["consent", "revoke", "RUN", "[hd]_anna"],
    ["consent", "grant", "RUN", "[hd]_anna", "--who", "Ada [/form]"],
    ["consent", "grant", "RUN", "[/nobody] ε", "--who", "x"],
    ["prepare", "RUN"],
    ["adapter", "inspect", "RUN"],
    ["report", "RUN"],
    ["privacy", "report", "RUN"],
    ["tables", "RUN"],
]


def on(run: RunFolder, command: list[str]) -> list[str]:
    return [str(run.root) if word == "RUN" else word for word in command]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_print_such_names_whole_in_any_terminal(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, command: list[str], encoding: str
) -> None:
    monkeypatch.setattr("pipelines.runner.run_jobs", lambda *_, **__: None)
    result = CliRunner(charset=encoding).invoke(app, on(run, command), env={"COLUMNS": "300"})
    shown = result.stdout_bytes.decode(encoding) + result.stderr_bytes.decode(encoding)
    assert result.exit_code in (0, 2) and "Traceback" not in shown and "unforeseen" not in shown, shown
    assert "\x1b" not in shown and "\u202e" not in shown
    if command[0] in ("clients", "consent") and "[/nobody] ε" not in command:
        assert "[hd]_anna" in shown
    if command[:2] == ["consent", "show"]:
        assert "Ada [/form]" in shown and "[x]_:smile:" in shown
    if command[0] == "prepare":
        assert "[/reason]" in shown and "[/remedy]" in shown


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("command", [["clients", "RUN"], ["consent", "show", "RUN"]], ids=" ".join)
def test_a_document_is_json_in_any_terminal(run: RunFolder, command: list[str], encoding: str) -> None:
    result = CliRunner(charset=encoding).invoke(app, [*on(run, command), "--json"])
    document = json.loads(result.stdout_bytes.decode("ascii"))
    assert "Zoë_ε" in str(document)


@pytest.mark.parametrize(
    "typed", [["--help"], ["privacy", "plan", "--help"], ["train", "--set", "ε=1"], ["ε"], ["verify", "ε.mp4"]]
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_help_and_errors_in_terminals_that_lack_letters(typed: list[str], encoding: str) -> None:
    result = CliRunner(charset=encoding).invoke(app, typed)
    assert result.exit_code in (0, 2) and not isinstance(result.exception, UnicodeError)


def test_a_real_terminal_without_unicode() -> None:
    script = "import sys; from pipelines.cli import app; sys.argv = ['privfedtalk', 'privacy', 'plan', '--help']; app()"
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert "ε" not in done.stdout.decode("ascii") and b"target-epsilon" in done.stdout


def test_streams_replace_what_they_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for encoding in ("ascii", "utf-8")]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    replace_what_cannot_be_shown()
    sys.stdout.write("ε")
    sys.stderr.write("a\udcffb")  # a file name that is no text
    for stream, expected in zip(streams, (b"?", b"a?b"), strict=True):
        stream.flush()
        assert stream.buffer.getvalue() == expected


def test_progress_shows_names_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    Meter(f"crops of {HOSTILE}", 3).close()
    shown = capsys.readouterr().err
    assert "\x1b[2J" not in shown and "\u202e" not in shown and "crops of a [2Jb" in shown


def test_what_libraries_warn_of_is_not_the_users_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy.ma  # a library that is there, whose name the warning is given

    def warned(*_: object, **__: object) -> None:
        warnings.warn_explicit("dusty corner", UserWarning, numpy.ma.__file__, 1)
        warnings.warn_explicit("mind this", UserWarning, str(Path(terminal.__file__).parents[1] / "x.py"), 1)

    monkeypatch.setattr("pipelines.runner.run_jobs", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = CliRunner().invoke(app, ["train", "mine"])
    assert "dusty" not in result.output and "mind this" in result.stderr
