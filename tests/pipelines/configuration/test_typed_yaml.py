"""What is typed for a setting that is text stays that text; everywhere else YAML is YAML."""

from __future__ import annotations

import codecs
import datetime
import json
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
import yaml

from common.errors import PrivFedTalkError
from common.settings import Settings
from pipelines.configuration.reader import build, override, read_assignments, read_yaml
from pipelines.configuration.typed_yaml import UnreadableError, read
from tests.pipelines.cli.awkward import AWKWARD


class Colour(StrEnum):
    NO = "no"
    YES = "yes"


class Inner(Settings):
    path: Path
    note: str | None = "some"


class Everything(Settings):
    name: str = "name"
    path: Path | None = None
    colour: Colour = Colour.NO
    choice: Literal["on", "off"] = "off"
    people: tuple[str, ...] = ()
    lists: tuple[Path, ...] = ()
    parts: tuple[Inner, ...] = ()
    by_name: dict[str, tuple[str, ...]] = {}  # noqa: RUF012  # pydantic copies it
    count: int = 1
    most: int | None = 3
    share: float = 0.5
    flag: bool = False
    pair: tuple[int, int] = (1, 2)


def typed(*assignments: str) -> Everything:
    return build(Everything, override({}, read_assignments(assignments, Everything)), "test")


@pytest.mark.parametrize("name", [name for name in AWKWARD if name not in ('"quoted"', "'single'")])
def test_text_is_taken_as_it_was_typed(name: str) -> None:
    assert typed(f"name={name}").name == name
    if name not in ("null", "~"):
        assert typed(f"path={name}").path == Path(name)


@pytest.mark.parametrize("name", AWKWARD)
def test_text_in_quotes_is_what_the_quotes_hold(name: str) -> None:
    for plain in (False, True):
        assert typed(f"name={json.dumps(name, ensure_ascii=plain)}").name == name
        assert typed(f"path={json.dumps(name, ensure_ascii=plain)}").path == Path(name)
        assert typed(f"people={json.dumps([name, 'x'], ensure_ascii=plain)}").people == (name, "x")
        parts = json.dumps([{"path": name, "note": name}], ensure_ascii=plain)
        assert typed(f"parts={parts}").parts == (Inner(path=Path(name), note=name),)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_profile_keeps_text_whether_or_not_it_is_quoted(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"name: {json.dumps(name)}\npeople:\n- {json.dumps(name)}\n", encoding="utf-8")
    found = build(Everything, read_yaml(path, Everything), "p")
    assert (found.name, found.people) == (name, (name,))


@pytest.mark.parametrize("plain", ["2026-11-29", "0123", "no", "true", "1e3", "12:30", "0x10", ".inf", "1_000"])
def test_a_profile_keeps_what_yaml_would_make_something_else_of(tmp_path: Path, plain: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"name: {plain}\npath: {plain}\npeople: [{plain}, anna]\nby_name: {{{plain}: [{plain}]}}\n")
    found = build(Everything, read_yaml(path, Everything), "p")
    assert (found.name, found.path) == (plain, Path(plain))
    assert (found.people, found.by_name) == ((plain, "anna"), {plain: (plain,)})


def test_lists_of_names_are_yaml_with_text_in_them() -> None:
    assert typed("people=[anna,0123,no]").people == ("anna", "0123", "no")
    assert typed("people=[null, 2026-11-29]").people == ("null", "2026-11-29")
    assert typed("lists=[a.txt, 7]").lists == (Path("a.txt"), Path("7"))
    assert typed("people=[]").people == ()


def test_numbers_truth_and_nothing_are_yaml() -> None:
    found = typed("count=12", "most=null", "share=1e-4", "flag=yes", "pair=[3, 4]", "choice=on", "colour=no")
    assert (found.count, found.most, found.share, found.flag, found.pair) == (12, None, 1e-4, True, (3, 4))
    assert (found.choice, found.colour) == ("on", Colour.NO)
    assert typed("path=null").path is None and typed('path="null"').path == Path("null")
    assert typed("count=0123").count == 123  # not octal, 83


@pytest.mark.parametrize(
    "wrong",
    ["count=yes", "count=2026-11-29", "share=nan", "share=.nan", "share=.inf", "share=-.inf", "share=inf",
     "share=1e999", "count=1e308", "people=anna", "people=[[a]]", "flag=maybe", "choice=no", "count=",
     "name: x", "pair=[1]"],
)  # fmt: skip
def test_what_a_field_cannot_hold_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(PrivFedTalkError) as refused:
        typed(wrong)
    assert wrong.partition("=")[0].partition(":")[0] in refused.value.reason


def test_without_a_shape_it_is_yaml_as_ever() -> None:
    text = "a: [1, 2.5, no, null]\nb: {c: 2026-11-29}\nd: &x {e: 1}\nf: {<<: *x, g: 2}\nh: *x\n"
    assert read(text) == yaml.safe_load(text)
    assert read("2026-11-29") == datetime.date(2026, 11, 29) and read("") is None


BILLION = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    ["a: [1", "2026-13-45", "&a [*a]", "[" * 5000, "{" * 3000, BILLION, "a: 1\na: 2", "? [a]\n: b",
     "!!python/name:os.system", "a: \x00", "x: " + "9" * 5000, "a:\tb: c"],
)  # fmt: skip
def test_what_is_no_yaml_is_refused_in_short_time(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnreadableError):
        read(text)
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(PrivFedTalkError, match=r"p\.yaml"):
        read_yaml(path, Everything)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_unicode_profiles_are_read(tmp_path: Path, encoding: str, end: str) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    path = tmp_path / "p.yaml"
    path.write_bytes(mark + f"# ε{end}name: Zoë{end}people: [Åsa]{end}".encode(encoding))
    assert read_yaml(path, Everything) == {"name": "Zoë", "people": ["Åsa"]}


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le"])
def test_other_encodings_are_refused_with_the_way_to_mend_them(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes("name: Zoë\n".encode(encoding))
    with pytest.raises(PrivFedTalkError, match=r"p\.yaml is not (UTF-8: byte \d+ is 0xeb|YAML)"):
        read_yaml(path, Everything)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.yaml"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(PrivFedTalkError, match=r"p\.yaml cannot be read"):
        read_yaml(path, Everything)
