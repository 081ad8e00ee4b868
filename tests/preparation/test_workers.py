from __future__ import annotations

import signal

from preparation.workers import map_processes


def test_results_come_with_their_items() -> None:
    done = {each.item: each.result for each in map_processes(abs, [-3, 2, -1], workers=2)}
    assert done == {-3: 3, 2: 2, -1: 1}


def test_the_item_that_kills_its_process_is_named_and_the_rest_is_done() -> None:
    """SIGCONT does nothing to a running process; SIGKILL cannot be caught."""
    items = [signal.SIGCONT, signal.SIGKILL, signal.SIGCONT]
    done = list(map_processes(signal.raise_signal, items, workers=1))
    assert sorted((int(each.item), each.died) for each in done) == [(9, True), (18, False), (18, False)]
