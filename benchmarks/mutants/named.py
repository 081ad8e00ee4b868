"""Mutants written by hand, read from `named.toml`, which says how to add one."""

from __future__ import annotations

import tomllib
from pathlib import Path

from benchmarks.mutants.operators import Mutant, substitute
from benchmarks.mutants.targets import read

LIST = Path(__file__).with_name("named.toml")


def named_mutants(path: Path = LIST) -> list[Mutant]:
    """All hand-written mutants; ValueError names the first whose source is gone."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return [substitute(each["file"], read(each["file"]), each["name"], each["old"], each["new"]) for each in entries]
