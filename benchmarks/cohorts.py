"""What each way to draw a round's clients costs: the noise for the same ε, and what is left of the signal.

    python -m benchmarks.cohorts
    python -m benchmarks.cohorts --page      # also writes the section of benchmarks/README.md

A thousand rounds of ten clients on average, Gaussian noise of a trusted server, δ = min(1e-5, 1/10N). z is the noise
multiplier; a signal is what clients agree on over all rounds together, against the noise on it, for an adapter of
109,056 numbers. No run is trained: all follows from the accountants.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page_sections import write_section
from training.privacy.accounting.plan import plan
from training.privacy.accounting.schedule import Sampling, Schedule
from training.settings.privacy import PrivacySettings

PAGE = Path(__file__).resolve().parent / "README.md"
MARK = "<!-- Below: written by python -m benchmarks.cohorts -->"
CLIENTS, TARGETS, ROUNDS, PER_ROUND, DIMENSION = (100, 1_000, 10_000), (8.0, 2.0), 1_000, 10, 109_056
DRAWN: tuple[Sampling, ...] = ("fixed", "poisson", "allocation")
HEAD = ("clients", "ε", *(f"z, {way}" for way in DRAWN), *(f"signal / noise, {way}" for way in DRAWN))


def rows(clients: Sequence[int], targets: Sequence[float], rounds: int) -> Iterator[list[str]]:
    """A row for each number of clients and target ε."""
    for count in clients:
        for target in targets:
            schedule = Schedule(count, PER_ROUND, rounds, "poisson")
            made = plan(schedule, target, PrivacySettings(mode="central"), DIMENSION, factors=())
            found = {one.sampling: one for one in made.alternatives}
            z = [f"{found[way].noise_multiplier:.3g}" for way in DRAWN]
            signal = [f"{found[way].cost.signal_to_noise_all_rounds:.2g}" for way in DRAWN]
            yield [f"{count:,}", f"{target:g}", *z, *signal]


def table(body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *body)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the section of benchmarks/README.md")
    asked = parser.parse_args()
    body = []
    for row in rows(CLIENTS, TARGETS, ROUNDS):
        body.append(row)
        sys.stderr.write(" ".join(row) + "\n")
    lines = table(body)
    print("\n".join(lines))
    if asked.page:
        about = (
            f"`python -m benchmarks.cohorts`: the noise multiplier z for the same ε by each way to draw {PER_ROUND} "
            f"clients a round on average, {ROUNDS:,} rounds, central noise, δ = min(1e-5, 1/10N); and the signal of "
            f"all rounds over their noise, {DIMENSION:,} numbers. The same on every machine."
        )
        write_section(PAGE, MARK, "\n".join([MARK, "## Ways to draw cohorts", "", about, "", *lines]))


if __name__ == "__main__":
    main()
