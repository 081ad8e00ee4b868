"""The rounds' progress on standard error: a growing table in a terminal, one line a round in a log."""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from training.federation.server.checkpoint import RoundRecord

ROWS = 12
"""Rounds shown at once; `rounds.jsonl` has them all."""


class RoundDisplay:
    """Shows each round when called with its record; a context manager that closes the live table."""

    def __init__(self, method: str, rounds: int, console: Console | None = None) -> None:
        self.method, self.rounds = method, rounds
        self._console = console or Console(stderr=True)
        self._shown: deque[RoundRecord] = deque(maxlen=ROWS)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __call__(self, record: RoundRecord) -> None:
        """Show a round that has ended."""
        self._shown.append(record)
        if self._live is None:
            sys.stderr.write(line(record) + "\n")
            sys.stderr.flush()
        else:
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        title = f"{self.method}: round {self._shown[-1].round} of {self.rounds}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in ("round", "clients", "public loss", "score", "unclipped", "|update|", "ε", "MB up", "s", ""):
            table.add_column(name, justify="left" if not name else "right")
        for record in self._shown:
            table.add_row(*_cells(record), style="" if record.applied else "yellow")
        return table

    def __enter__(self) -> RoundDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def line(record: RoundRecord) -> str:
    """One line of text about a round."""
    received = f"{record.survivors} of " if record.survivors != len(record.clients) else ""
    failed = "" if record.applied else f", {record.outcome}: {record.reason}"
    return (
        f"round {record.round}: {received}{len(record.clients)} clients, public validation loss "
        f"{record.public_validation_loss:.4f}, {sum(record.seconds.values()):.1f} s{failed}"
    )


def _cells(record: RoundRecord) -> list[str]:
    return [
        str(record.round),
        f"{record.survivors}/{len(record.clients)}",
        f"{record.public_validation_loss:.4f}",
        _figure(record.score_mean, ".3f"),
        _figure(record.within_clip, ".0%"),
        f"{record.update_norm:.3g}",
        _figure(record.epsilon_release, ",.3g" if (record.epsilon_release or 0) < 1000 else ",.0f"),
        f"{record.bytes_up / 1e6:.2f}",
        f"{sum(record.seconds.values()):.1f}",
        "" if record.applied else f"{record.outcome}: {record.reason}",
    ]


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
