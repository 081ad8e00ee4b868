"""Inputs are looked at and outputs are tried before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import PrivFedTalkError
from pipelines.cli import app
from pipelines.terminal.paths import full_path, readable_file, readable_folder, writable_file, writable_folder
from tests.pipelines.cli.awkward import AWKWARD


@pytest.mark.parametrize("name", [name for name in AWKWARD if "/" not in name and name != "~"])
def test_an_output_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert writable_file(Path(f"{name}.mp4")) == tmp_path / f"{name}.mp4"
    assert writable_file(Path("new") / name / "talk.mp4") == tmp_path / "new" / name / "talk.mp4"
    assert writable_folder(Path(name)) == tmp_path / name
    assert list(tmp_path.iterdir()) == [], "trying leaves nothing"


def test_a_colon_makes_no_protocol_of_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(writable_file(Path("12:30.mp4"))) == f"{tmp_path}/12:30.mp4"


@pytest.mark.parametrize("way", ["same", "relative", "link", "hard link", "dots"])
def test_an_output_is_never_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.chdir(tmp_path)
    speech = tmp_path / "speech.mp4"
    speech.write_bytes(b"precious")
    out = {"relative": Path("speech.mp4"), "dots": tmp_path / "x" / ".." / "speech.mp4"}.get(way, speech)
    (tmp_path / "x").mkdir()
    if "link" in way:
        out = tmp_path / "out.mp4"
        (os.link if way == "hard link" else os.symlink)(speech, out)
    with pytest.raises(PrivFedTalkError, match="is the input"):
        writable_file(out, [tmp_path / "face.png", speech])
    face = tmp_path / "face.png"
    face.write_bytes(b"x")
    files = ["--reference", str(face), "--speech", str(speech), "--out", str(out)]
    result = CliRunner().invoke(app, ["generate", *files])
    assert result.exit_code == 2 and "is the input" in result.stderr and speech.read_bytes() == b"precious"


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for out, said in (
        (tmp_path, "is a folder"),
        (file / "below" / "talk.mp4", "Not a directory"),
        (tmp_path / ("x" * 300), "name too long"),
        (Path("/proc/talk.mp4"), "cannot be written"),
        (Path("/proc/new/talk.mp4"), "cannot be written"),
        (tmp_path / "pipe", "no ordinary file"),
    ):
        with pytest.raises((PrivFedTalkError, OSError), match=said):
            writable_file(out)
    with pytest.raises(PrivFedTalkError, match="is a file, not a folder"):
        writable_folder(file)
    with pytest.raises(PrivFedTalkError, match=r"--into .* cannot be written"):
        writable_folder(Path("/proc/weights"), "--into")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]


def test_folders_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for method in ("touch", "mkdir"):  # of a user who, unlike a container's, is not allowed everything
        with monkeypatch.context() as patched:
            patched.setattr(Path, method, refuse)
            with pytest.raises(PrivFedTalkError, match="cannot be written: Permission denied"):
                writable_file(tmp_path / "new" / "talk.mp4")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(PrivFedTalkError, match=r"the clip .* cannot be read: Permission denied"):
            readable_file(tmp_path / "clip.mp4", "clip")


@pytest.mark.parametrize(
    "typed",
    [
        ["adapter", "export", "none", "--out"],
        ["tables", "none", "--out"],
        ["privacy", "report", "none", "--out"],
        ["weights", "fetch", "inception", "--into"],
        ["studio", "--speakers", "8", "--out"],
        ["generate", "--reference", "f", "--speech", "s", "--out"],
    ],
)
def test_every_command_tries_its_output_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f", "s", "file"):
        (tmp_path / name).write_text("x")
    result = CliRunner().invoke(app, [*typed, "file/below"])
    assert result.exit_code == 2 and f"{typed[-1]} file/below cannot be written: Not a directory" in result.stderr


def test_a_run_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["prepare", f"{tmp_path}/file/below"])
    said = f"RUN {tmp_path}/file/below cannot be written: Not a directory"
    assert result.exit_code == 2 and said in result.stderr.replace("\n", "")


def test_inputs_are_named_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "absent", "No such file"), (tmp_path / "ring", "ring")):
        with pytest.raises(PrivFedTalkError, match=said):
            readable_file(path, "sound")
    with pytest.raises(PrivFedTalkError, match=r"the corpus .* cannot be read: No such file"):
        readable_folder(tmp_path / "absent", "corpus")


def test_nobodys_home_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert full_path("~nobody-of-this-name/x") == tmp_path / "~nobody-of-this-name" / "x"
