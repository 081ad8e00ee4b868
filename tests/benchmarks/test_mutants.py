"""The mutation run itself: its changes are what they say, and its lists speak of the source that is there."""

from __future__ import annotations

import pytest

from benchmarks.mutants.__main__ import all_mutants
from benchmarks.mutants.named import named_mutants
from benchmarks.mutants.operators import Mutant, mutants_of, substitute
from benchmarks.mutants.results import load_review
from benchmarks.mutants.running import Baseline
from benchmarks.mutants.targets import read

SOURCE = '''
LIMIT = 3

class Guard:
    limit: int = 5

    def check(self, held: set[str], asked: set[str]) -> bytes:
        """Text stays: 7 < 8."""
        if held & asked:
            raise ValueError(f"both of {len(asked) - 1}")
        if len(asked) < self.limit and σ:
            self.answer("α", b"a")
        return b"purpose" + os.urandom(32)
'''


def changes(source: str) -> set[str]:
    return {f"{mutant.before} → {mutant.after}" for mutant in mutants_of("guard.py", source)}


def test_guards_fall_comparisons_move_and_randomness_goes() -> None:
    found = changes(SOURCE)
    assert {
        "held & asked → False",
        "held & asked → (held | asked)",
        "len(asked) < self.limit → (len(asked) <= self.limit)",
        "len(asked) < self.limit and σ → (σ)",
        "self.answer('α', b'a') → pass",
        "os.urandom(32) → (bytes([7]) * 32)",
        "b'purpose' + os.urandom(32) → (b'purpose')",
    } <= found
    assert not any("7" in change.partition(" → ")[0] or "asked) - 1" in change for change in found), "texts stay"
    assert not any(change.startswith(("3 ", "5 ")) for change in found), "so does what is outside functions"


def test_times_bytes_and_turned_conditions_are_left_alone() -> None:
    source = """
def f(a, b, server):
    laps.lap("local" if a < b else "sum")
    if a == b:
        return record(bytes_up=a + b if a else 0, opened=a == b)
    log.write(a)
"""
    assert changes(source) == {
        "a == b → False",
        "a == b → True",
        "a == b → (a != b)",  # of `opened`, which is no condition
        "log.write(a) → pass",
    }


def test_a_mutant_is_the_source_with_one_place_changed() -> None:
    (mutant,) = [each for each in mutants_of("guard.py", SOURCE) if each.before == "held & asked" and "|" in each.after]
    assert mutant.source == SOURCE.replace("held & asked", "(held | asked)")
    assert (mutant.where, mutant.line) == ("Guard.check", 9)
    for each in mutants_of("guard.py", SOURCE):
        compile(each.source, "guard.py", "exec")
    assert mutants_of("guard.py", SOURCE, functions="other") == []


def test_a_hand_written_mutant_whose_source_is_gone_is_an_error() -> None:
    assert substitute("guard.py", SOURCE, "asks nobody", "if held & asked:", "if False:").line == 9
    for old in ("if held:", "asked"):
        with pytest.raises(ValueError, match="stands"):
            substitute("guard.py", SOURCE, "asks nobody", old, "x")


def test_all_mutants_are_there_compile_and_have_names_of_their_own() -> None:
    named = named_mutants()
    assert {
        "no pairwise masks",
        "no self masks",
        "Shamir without random coefficients",
        "central noise from a constant seed",
        "noise shares that ignore colluders",
    } <= {mutant.name for mutant in named}
    everything: list[Mutant] = all_mutants()
    assert len({mutant.identity for mutant in everything}) == len(everything) > 1000
    for mutant in named:
        compile(mutant.source, mutant.file, "exec")


def test_the_review_speaks_of_mutants_that_there_are_and_gives_reasons() -> None:
    review = load_review()
    assert set(review) <= {mutant.identity for mutant in all_mutants()}
    assert all(len(why) > 20 for why in review.values())


def test_the_first_tests_shown_fit_their_time_and_strangers_are_shown_the_rest() -> None:
    mutant = mutants_of("training/claims/violations.py", read("training/claims/violations.py"))[0]
    seconds = {"tests/test_claims.py::quick": 1.0, "tests/test_claims.py::slow": 4.5, "tests/test_claims.py::long": 3.5}
    seconds |= {"tests/test_other.py::late": 2.0, "tests/test_other.py::kills": 0.5}
    baseline = Baseline(seconds, {test: {"training/claims/violations.py": [mutant.line]} for test in seconds})
    first = baseline.tests_of(mutant)
    assert first == ["tests/test_other.py::kills", "tests/test_claims.py::quick", "tests/test_claims.py::long"]
    rest = set(baseline.tests_of(mutant, most_seconds=120.0)) - set(first)
    assert rest == {"tests/test_other.py::late"}, "and none that is too slow for a run of thousands"
