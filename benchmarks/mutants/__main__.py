"""Can the tests fail? Makes one small fault at a time in code that guards secrecy, and runs the tests that reach it.

    .venv/bin/python -m benchmarks.mutants                  (or: make mutants)
    .venv/bin/python -m benchmarks.mutants --only shamir    files, functions or names with this in them
    .venv/bin/python -m benchmarks.mutants --survivors      after tests were added: those that survived the last time
    .venv/bin/python -m benchmarks.mutants --list           name them, run nothing

A mutant is killed if a test fails with it. A survivor must be in `reviewed.toml` with the reason why it weakens no
secret. The exit code is 1 if a survivor is not, or if the review names a mutant that is killed or gone. Results are
kept in data/mutants until the project's or the tests' source changes, so that a stopped run goes on. A whole run writes
its figures and the review into docs/security.md.

To add a mutant by hand, add an entry to `named.toml`; to mutate a further file, name it in `targets.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then

from benchmarks.mutants.named import named_mutants
from benchmarks.mutants.operators import Mutant, mutants_of
from benchmarks.mutants.page import write_page
from benchmarks.mutants.results import Result, diff_of, load_review, table_of
from benchmarks.mutants.running import digest_of, run_mutants
from benchmarks.mutants.targets import ROOT, TARGETS, read
from common.workers import available_cores

KEPT = ROOT / "data" / "mutants"
FLOORS = ("common", "preparation", "training")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="mutants whose name holds one of these")
    parser.add_argument("--survivors", action="store_true", help="do not run again what was killed the last time")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--list", action="store_true", help="name the mutants and run none")
    parser.add_argument("--workers", type=int, default=available_cores())
    arguments = parser.parse_args()
    everything = all_mutants()
    chosen = [mutant for mutant in everything if any(text in mutant.identity for text in arguments.only)]
    if arguments.list:
        print("\n".join(mutant.identity for mutant in chosen))
        return 0
    # All that a result can depend on: the two lower floors and their tests.
    log = KEPT / f"{digest_of_sources(*FLOORS, *(f'tests/{floor}' for floor in FLOORS))}.jsonl"
    KEPT.mkdir(parents=True, exist_ok=True)
    known = {} if arguments.fresh else _load(log)
    if arguments.survivors:
        last = max(KEPT.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, default=log)
        known = {name: result for name, result in _load(last).items() if result.outcome == "killed"} | known
    begun, anew = time.monotonic(), not known
    results = run(chosen, known, log, arguments.workers)
    minutes = (time.monotonic() - begun) / 60 if anew else None
    return compare_with_review(chosen, results, whole=chosen == everything, minutes=minutes, workers=arguments.workers)


def run(chosen: Sequence[Mutant], known: dict[str, Result], log: Path, workers: int) -> dict[str, Result]:
    """The result of each mutant, `known` or run now; all results are written to `log`."""
    results = {mutant.identity: known[mutant.identity] for mutant in chosen if mutant.identity in known}
    waiting = [mutant for mutant in chosen if mutant.identity not in results]
    begun = time.monotonic()
    with log.open("w") as kept:
        for name, result in known.items():
            _write(kept, name, result)

        def on_result(mutant: Mutant, outcome: str, by: str) -> None:
            results[mutant.identity] = Result(outcome, by)
            _write(kept, mutant.identity, results[mutant.identity])
            survived = sum(result.outcome == "survived" for result in results.values())
            seconds = time.monotonic() - begun
            sys.stderr.write(f"\r{len(results)} of {len(chosen)} mutants, {survived} survived, {seconds:.0f} s ")

        if waiting:
            baseline = KEPT / f"{digest_of_sources(*FLOORS)}.baseline.json"
            run_mutants(waiting, workers, on_result, baseline, load_review())
            sys.stderr.write("\n")
    return results


def compare_with_review(
    chosen: Sequence[Mutant], results: Mapping[str, Result], whole: bool, minutes: float | None, workers: int
) -> int:
    """Print the table and each difference between the survivors and the review; returns 0 if there is none."""
    review = load_review()
    survivors = [mutant for mutant in chosen if results[mutant.identity].outcome == "survived"]
    unreviewed = [mutant for mutant in survivors if mutant.identity not in review]
    print(table_of(chosen, results))
    for mutant in unreviewed:
        print(f"\nsurvived, not reviewed: {mutant.identity}\n{results[mutant.identity].by}\n{diff_of(mutant)}")
    stale = sorted(set(review) - {mutant.identity for mutant in survivors}) if whole else []
    for identity in stale:
        print(f"\nreviewed, but killed or gone: {identity}")
    if unreviewed or stale:
        return 1
    if whole:
        write_page(chosen, results, minutes, workers)
    return 0


def all_mutants() -> list[Mutant]:
    """All mutants: the hand-written ones first, then those of the operators, file by file, without duplicates."""
    generated = [mutant for file, functions in TARGETS.items() for mutant in mutants_of(file, read(file), functions)]
    found = {(mutant.file, mutant.source): mutant for mutant in [*generated, *named_mutants()]}
    return sorted(found.values(), key=lambda mutant: (not mutant.name, list(TARGETS).index(mutant.file), mutant.line))


def digest_of_sources(*folders: str) -> str:
    return digest_of(*sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")))


def _write(log: TextIO, name: str, result: Result) -> None:
    log.write(json.dumps({"mutant": name, "outcome": result.outcome, "by": result.by}) + "\n")
    log.flush()


def _load(log: Path) -> dict[str, Result]:
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {line["mutant"]: Result(line["outcome"], line["by"]) for line in lines}


if __name__ == "__main__":
    raise SystemExit(main())
