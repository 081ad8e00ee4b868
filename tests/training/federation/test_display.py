"""What is said of rounds: a line each in a log, a table in a terminal; failed rounds say why."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from training.federation.display import ROWS, RoundDisplay
from training.federation.server.checkpoint import Outcome, RoundRecord

Sums = tuple[float | None, float | None, float | None]


def record(number: int, outcome: Outcome = "applied", reason: str = "") -> RoundRecord:
    heard = 4 if outcome == "applied" else 0
    sums: Sums = (3.0, 0.5, 0.6) if heard else (None, None, None)
    seconds = {"local": 2.0, "aggregation": 0.5}
    return RoundRecord(
        number, list("abcd"), heard, 0.25, *sums, 0.1, 1.0, 1.0, 0, 0, seconds, outcome=outcome, reason=reason
    )


FAILED = record(2, "aborted", "1 clients left after training, 4 needed")


def test_a_log_gets_one_line_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    with RoundDisplay("fedavg", 3, Console(file=io.StringIO())) as show:
        show(record(1))
        show(FAILED)
    assert capsys.readouterr().err.splitlines() == [
        "round 1: 4 clients, public validation loss 0.2500, 2.5 s",
        "round 2: 0 of 4 clients, public validation loss 0.2500, 2.5 s, aborted: 1 clients left after training, "
        "4 needed",
    ]


def test_a_terminal_gets_a_table_of_the_last_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with RoundDisplay("fedavg", 40, Console(file=out, force_terminal=True, width=140)) as show:
        for number in range(1, ROWS + 3):
            show(FAILED if number == 2 else record(number))
    last = out.getvalue()[out.getvalue().rindex("fedavg: round") :]
    assert last.startswith(f"fedavg: round {ROWS + 2} of 40")
    rows = [text.split() for text in last.splitlines() if "/4" in text]
    assert [int(row[0].split("m")[-1]) for row in rows] == list(range(3, ROWS + 3))
    assert rows[0][1:5] == ["4/4", "0.2500", "0.600", "50%"]
    assert "4 needed" in out.getvalue()
    assert capsys.readouterr().err == ""
