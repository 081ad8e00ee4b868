"""Are the tests able to fail? Changes what guards secrecy, one small fault at a time, and runs the tests that reach it.

    .venv/bin/python -m benchmarks.mutants                  (or: make mutants)
    .venv/bin/python -m benchmarks.mutants --only shamir    files, functions or names with this in them
    .venv/bin/python -m benchmarks.mutants --survivors      after tests were added: those that survived the last time
    .venv/bin/python -m benchmarks.mutants --list           name them, run nothing

A mutant is killed where a test fails with it. One that survives must stand in `reviewed.toml` with the reason why it
weakens no secret; exit code 1 where one does not, or where the review names one that is killed or gone. What has run
is kept in data/mutants until the project's or the tests' source changes, so that a run that was stopped goes on. A
whole run writes its figures and the review into docs/security.md.

To add a mutant by hand, add an entry to `named.toml`; to mutate a further file, name it in `targets.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then

from benchmarks.mutants.named import named_mutants
from benchmarks.mutants.operators import Mutant, mutants_of
from benchmarks.mutants.page import write_page
from benchmarks.mutants.results import Result, diff_of, load_review, table_of
from benchmarks.mutants.running import run_mutants
from benchmarks.mutants.targets import ROOT, TARGETS, read

KEPT = ROOT / "data" / "mutants"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="mutants whose name holds one of these")
    parser.add_argument("--survivors", action="store_true", help="what was killed the last time stays so")
    parser.add_argument("--fresh", action="store_true", help="forget what has run")
    parser.add_argument("--list", action="store_true", help="name the mutants and run none")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    everything = all_mutants()
    chosen = [
        mutant for mutant in everything if not arguments.only or any(t in mutant.identity for t in arguments.only)
    ]
    if arguments.list:
        print("\n".join(mutant.identity for mutant in chosen))
        return 0
    log = KEPT / f"{digest_of_sources()}.jsonl"
    known = {} if arguments.fresh else _load(log)
    if arguments.survivors:
        last = max(KEPT.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, default=log)
        known = {name: result for name, result in _load(last).items() if result.outcome == "killed"} | known
    begun = time.monotonic()
    results = {mutant.identity: known[mutant.identity] for mutant in chosen if mutant.identity in known}
    waiting = [mutant for mutant in chosen if mutant.identity not in results]
    KEPT.mkdir(parents=True, exist_ok=True)

    with log.open("w" if arguments.fresh else "a") as kept:

        def on_result(mutant: Mutant, outcome: str, by: str) -> None:
            results[mutant.identity] = Result(outcome, by)
            kept.write(json.dumps({"mutant": mutant.identity, "outcome": outcome, "by": by}) + "\n")
            kept.flush()
            survived = sum(result.outcome == "survived" for result in results.values())
            seconds = time.monotonic() - begun
            sys.stderr.write(f"\r{len(results)} of {len(chosen)} mutants, {survived} survived, {seconds:.0f} s ")

        if waiting:
            run_mutants(waiting, arguments.workers, on_result, log.with_suffix(".baseline.json"))
    sys.stderr.write("\n")
    seconds = time.monotonic() - begun
    review, whole = load_review(), chosen == everything
    survivors = [mutant for mutant in chosen if results[mutant.identity].outcome == "survived"]
    strangers = [mutant for mutant in survivors if mutant.identity not in review]
    print(table_of(chosen, results))
    for mutant in strangers:
        print(f"\nsurvived, not reviewed: {mutant.identity}\n{results[mutant.identity].by}\n{diff_of(mutant)}")
    stale = sorted(set(review) - {mutant.identity for mutant in survivors}) if whole else []
    for identity in stale:
        print(f"\nreviewed, but killed or gone: {identity}")
    if whole and not strangers and not stale and len(waiting) == len(everything):
        write_page(chosen, results, review, seconds, arguments.workers)
    return 1 if strangers or stale else 0


def all_mutants() -> list[Mutant]:
    """The hand-written ones first, then those of the operators, file by file; one change counts once."""
    generated = [mutant for file, functions in TARGETS.items() for mutant in mutants_of(file, read(file), functions)]
    found = {(mutant.file, mutant.source): mutant for mutant in [*generated, *named_mutants()]}
    return sorted(found.values(), key=lambda mutant: (not mutant.name, list(TARGETS).index(mutant.file), mutant.line))


def digest_of_sources() -> str:
    """Of all that a result can depend on: the two lower floors and their tests."""
    folders = ("preparation", "training", "tests/preparation", "tests/training")
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _load(log: Path) -> dict[str, Result]:
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {line["mutant"]: Result(line["outcome"], line["by"]) for line in lines}


if __name__ == "__main__":
    raise SystemExit(main())
