"""Every error ends: circles are cut, what nobody foresaw is shown once, and what the user can mend is named."""

from __future__ import annotations

import json
import time
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from common.errors import PrivFedTalkError
from pipelines.cli import app
from pipelines.errors import break_circles


class WrapperError(Exception):
    """As Dagster's, whose cause is the error that is raised anew while it is handled."""


def in_a_circle() -> Exception:
    try:
        try:
            raise KeyError("inner") from ValueError("innermost")
        except KeyError as error:
            raise WrapperError("step failed") from error
    except WrapperError as wrapper:
        inner = wrapper.__cause__
        assert isinstance(inner, KeyError)
        inner.__context__ = wrapper
        return inner


def chain(error: BaseException | None) -> list[BaseException]:
    """All errors that are reached from one, each as often as there are ways to it."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        assert len(found) < 1000, "the chain of causes has no end"
        one = waiting.pop()
        if one is not None:
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


def test_a_circle_of_causes_is_cut_and_the_rest_of_the_chain_is_kept() -> None:
    error = in_a_circle()
    break_circles(error)
    assert [type(one) for one in chain(error)] == [KeyError, ValueError]
    assert error.__cause__ is not None and error.__suppress_context__


def test_errors_that_are_their_own_cause_and_longer_circles_are_cut() -> None:
    own = ValueError("own")
    own.__cause__ = own
    ring = [ValueError(str(number)) for number in range(50)]
    for one, following in zip(ring, [*ring[1:], ring[0]], strict=True):
        one.__context__, one.__cause__ = following, ring[7]
    for error in (own, ring[0], ring[20]):
        break_circles(error)
        chain(error)


def test_an_ordinary_chain_stays_as_it_is() -> None:
    first = ValueError("first")
    second = KeyError("second")
    second.__context__ = first
    third = OSError("third")
    third.__cause__ = second
    break_circles(third)
    assert third.__cause__ is second and second.__context__ is first and not second.__suppress_context__


def test_what_the_orchestrator_raises_anew_ends() -> None:
    @dg.asset
    def broken() -> None:
        raise ZeroDivisionError("nobody foresaw it")

    with pytest.raises(ZeroDivisionError) as caught:
        dg.materialize([broken], instance=dg.DagsterInstance.ephemeral())
    assert caught.value.__context__ is not None and caught.value.__context__.__cause__ is caught.value, "Dagster's way"
    break_circles(caught.value)
    chain(caught.value)


def invoke_with(error: Exception, monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[int, str, str]:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pipelines.runner.run_jobs", fail)
    began = time.monotonic()
    result = CliRunner().invoke(app, ["train", "mine", *more])
    assert time.monotonic() - began < 20
    return result.exit_code, result.stdout, result.stderr


def test_an_unforeseen_error_is_shown_once_with_where_to_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, shown = invoke_with(in_a_circle(), monkeypatch)
    assert (code, out) == (1, "")
    assert shown.count("Traceback") == 1 and shown.count("\nKeyError: 'inner'") == 1
    assert "error: unforeseen, KeyError" in shown and "remedy: report it under Issues" in shown


def test_an_unforeseen_error_is_a_document_too(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = invoke_with(in_a_circle(), monkeypatch, "--json")
    assert code == 1 and json.loads(out)["error"].startswith("unforeseen, KeyError")


def test_what_an_error_says_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, shown = invoke_with(RuntimeError("[/form] [bold]x[/bold] \x1b[2J"), monkeypatch)
    assert "[/form] [bold]x[/bold]" in shown and "\x1b" not in shown


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", "/data/x.txt"),
        PermissionError(13, "Permission denied", "/data/x.txt"),
        IsADirectoryError(21, "Is a directory", "/data/x.txt"),
        OSError(36, "File name too long", "/data/x.txt"),
        OSError(30, "Read-only file system", "/data/x.txt"),
    ],
)
def test_what_the_system_refuses_names_the_file_and_the_reason(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, shown = invoke_with(error, monkeypatch)
    assert code == 2 and f"error: /data/x.txt: {error.strerror}" in shown and "Traceback" not in shown


@pytest.mark.parametrize("wrong", [["train", "--seed", "x"], ["train", "--stride", "3"], ["membership"]])
def test_a_wrong_option_is_a_document_under_json(wrong: list[str]) -> None:
    result = CliRunner().invoke(app, [*wrong, "--json"])
    assert result.exit_code == 2 and set(json.loads(result.stdout)) == {"error", "remedy"}


def unreadable(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "below a file":
        path.write_text("x")
        path /= "deeper.txt"
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "circle", "below a file"])
@pytest.mark.parametrize("option", ["--list", "--consent", "--root", "--part"])
def test_an_input_that_cannot_be_read_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, kind: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be begun")

    monkeypatch.setattr("pipelines.runner.run_jobs", never)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    given = unreadable(tmp_path, kind)
    if kind == "folder" and option in ("--root", "--part"):
        given = given / "absent"
    chosen = {
        "--list": ["--corpus", "lrs3", "--root", str(corpus), "--list", str(given)],
        "--consent": ["--corpus", "folder", "--root", str(corpus), "--consent", str(given)],
        "--root": ["--corpus", "folder", "--root", str(given)],
        "--part": ["--corpus", "mix", "--part", f"folder={given}", "--part", f"lrs3={corpus}"],
    }[option]
    result = CliRunner().invoke(app, ["prepare", str(tmp_path / "run"), *chosen])
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    assert given.name in result.stderr and "remedy:" in result.stderr


def test_a_binary_list_names_the_list(tmp_path: Path) -> None:
    from preparation.corpora.lists import read_lists

    path = tmp_path / "list.txt"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(PrivFedTalkError, match=r"list\.txt holds NUL bytes"):
        read_lists([path])


def test_a_report_on_what_is_not_evaluated_names_the_command_to_give_first(tmp_path: Path) -> None:
    def said() -> str:
        result = CliRunner().invoke(app, ["report", str(tmp_path / "mine")])
        assert result.exit_code == 2 and "Traceback" not in result.stderr
        return result.stderr

    run = tmp_path / "mine"
    assert "is not prepared yet" in (shown := said()) and f"privfedtalk prepare {run}" in shown
    run.mkdir()
    (run / "clients.json").write_text("{}")
    assert "is not trained yet" in (shown := said()) and f"privfedtalk train {run}" in shown
    (run / "models/backbone").mkdir(parents=True)
    (run / "models/backbone/config.json").write_text("{}")
    assert "is evaluated yet" in (shown := said()) and f"privfedtalk evaluate {run}" in shown
