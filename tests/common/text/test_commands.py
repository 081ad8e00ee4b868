"""Commands in messages can be copied into a shell as they are."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from common.text.commands import command

NAMES = ["c0003", "-FOCpMAww28", "--who", "Ada Lovelace", "it's", 'say "x"', "$(reboot)", "a;b", "😀", "clips #2", "*"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_out_of_the_shell_whole_and_is_no_option(name: str) -> None:
    words = shlex.split(command("consent grant", name, run=Path("/data/my run"), who="NAME"))
    assert words[:3] == ["privfedtalk", "consent", "grant"] and name in words[3:]
    assert "/data/my run" in words
    if name.startswith("-"):
        assert words[-3:] == ["--", "/data/my run", name]


def test_a_value_like_an_option_stays_a_value() -> None:
    assert command("generate", run="mine", adapter="-FOC") == "privfedtalk generate mine --adapter=-FOC"
